// The loss curve of a run, as SVG: training and validation loss by step, with a cursor that reads values.

import { svgElement } from "./dom.js";
import { logTicks, scale, stepLabel, ticks } from "./scale.js";

const MARGIN = { left: 46, right: 14, top: 30, bottom: 42 };
const MAX_DOTS = 60;

/** Draws losses into an `<svg>`, and writes the values at the cursor into a readout. */
export class LossChart {
    #svg;
    #readout;
    #empty;
    #losses = { train: [], val: [] };
    #steps = [];
    #isLog = false;
    #cursor = null; // An index of `#steps`; null is the last step, also while the run grows.
    #axes = null;
    #run = null;

    constructor(svg, readout, empty) {
        this.#svg = svg;
        this.#readout = readout;
        this.#empty = empty;
        new ResizeObserver(() => this.#render()).observe(svg);
        svg.addEventListener("pointermove", (event) => this.#point(event));
        svg.addEventListener("pointerdown", (event) => this.#point(event));
        svg.addEventListener("pointerleave", () => this.#moveTo(null));
        svg.addEventListener("keydown", (event) => this.#onKey(event));
    }

    /** Draws the losses of a run: `{ train: [[step, loss]], val: [[step, loss]] }`. */
    draw(run, { train, val }, isLog) {
        const isFinite = ([, loss]) => Number.isFinite(loss);
        if (run !== this.#run) this.#cursor = null;
        this.#run = run;
        this.#isLog = isLog;
        this.#losses = { train: train.filter(isFinite), val: val.filter(isFinite) };
        const all = [...this.#losses.train, ...this.#losses.val].map(([step]) => step);
        this.#steps = [...new Set(all)].sort((a, b) => a - b);
        this.#svg.setAttribute("aria-label", `Loss curve of ${run}, by step`);
        this.#render();
    }

    setLog(isLog) {
        this.#isLog = isLog;
        this.#render();
    }

    #render() {
        const { width, height } = this.#svg.getBoundingClientRect();
        this.#empty.hidden = this.#steps.length > 0;
        this.#readout.textContent = "";
        if (width === 0 || this.#steps.length === 0) {
            this.#axes = null;
            this.#svg.replaceChildren();
            return;
        }
        this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
        const { train, val } = this.#losses;
        const xRange = [Math.min(0, this.#steps[0]), Math.max(this.#steps.at(-1), 1)];
        const yRange = padded([...train, ...val], this.#isLog);
        const x = scale(xRange, [MARGIN.left, width - MARGIN.right], false);
        const y = scale(yRange, [height - MARGIN.bottom, MARGIN.top], this.#isLog);
        this.#axes = { x, y, width, height };
        this.#svg.replaceChildren(
            ...this.#grid(xRange, yRange),
            curve("train", train, x, y),
            curve("val", val, x, y),
            ...val.slice(-1).map((point) => dot("val", point, x, y)),
            ...(val.length <= MAX_DOTS ? val.slice(0, -1).map((point) => dot("val", point, x, y)) : []),
            ...this.#legend(),
            svgElement("g", { class: "cursor" }),
        );
        this.#showCursor();
    }

    #grid(xRange, yRange) {
        const { x, y, width, height } = this.#axes;
        const [left, right, bottom] = [MARGIN.left, width - MARGIN.right, height - MARGIN.bottom];
        const yTicks = (this.#isLog ? logTicks : ticks)(yRange, Math.max(3, Math.floor(height / 70)));
        const xTicks = ticks(xRange, Math.max(3, Math.floor(width / 120)));
        return [
            ...yTicks.flatMap((loss) => [
                svgElement("line", { class: "grid", x1: left, x2: right, y1: y(loss), y2: y(loss) }),
                svgElement("text", { class: "tick", x: left - 8, y: y(loss) + 4, "text-anchor": "end" }, String(loss)),
            ]),
            svgElement("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
            ...xTicks.map((step) => svgElement("text",
                { class: "tick", x: x(step), y: bottom + 18, "text-anchor": "middle" }, stepLabel(step))),
            svgElement("text", { class: "title", x: right, y: height - 4, "text-anchor": "end" }, "step"),
            svgElement("text", { class: "title", x: 0, y: 12 }, "loss (nats per token)"),
        ];
    }

    #legend() {
        const right = this.#axes.width - MARGIN.right;
        return [["train", "training", 18], ["val", "validation", 36]].flatMap(([name, label, down]) => {
            const y = MARGIN.top + down;
            return [
                svgElement("line", { class: name, x1: right - 28, x2: right - 4, y1: y - 4, y2: y - 4 }),
                svgElement("text", { class: "title", x: right - 36, y, "text-anchor": "end" }, label),
            ];
        });
    }

    #point(event) {
        if (this.#axes === null) return;
        const at = event.clientX - this.#svg.getBoundingClientRect().left;
        const { x } = this.#axes;
        let best = 0;
        this.#steps.forEach((step, index) => {
            if (Math.abs(x(step) - at) < Math.abs(x(this.#steps[best]) - at)) best = index;
        });
        this.#moveTo(best);
    }

    #onKey(event) {
        if (this.#axes === null) return;
        const last = this.#steps.length - 1;
        const page = Math.max(1, Math.round(last / 10));
        const at = this.#cursor ?? last;
        const target = {
            ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
            PageDown: at - page, PageUp: at + page, Home: 0, End: last,
        }[event.key];
        if (target === undefined) return;
        event.preventDefault();
        this.#moveTo(Math.min(Math.max(target, 0), last));
    }

    #moveTo(index) {
        this.#cursor = index;
        if (this.#axes !== null) this.#showCursor();
    }

    #showCursor() {
        const step = this.#steps[Math.min(this.#cursor ?? Infinity, this.#steps.length - 1)];
        const { x, y, height } = this.#axes;
        const marks = [];
        const parts = [`step ${step.toLocaleString("en")}`];
        for (const [name, label] of [["train", "training"], ["val", "validation"]]) {
            const point = latest(this.#losses[name], step);
            if (point === null) continue;
            marks.push(dot(`${name} at-cursor`, point, x, y));
            const isOlder = point[0] !== step;
            parts.push(`${label} ${point[1].toFixed(3)}${isOlder ? ` (step ${point[0].toLocaleString("en")})` : ""}`);
        }
        if (this.#cursor !== null) {
            marks.unshift(svgElement("line", { class: "rule", x1: x(step), x2: x(step), y1: MARGIN.top, y2: height - MARGIN.bottom }));
        }
        this.#svg.querySelector(".cursor").replaceChildren(...marks);
        const text = parts.join(" · ");
        this.#readout.textContent = text;
        this.#svg.setAttribute("aria-valuemin", this.#steps[0]);
        this.#svg.setAttribute("aria-valuemax", this.#steps.at(-1));
        this.#svg.setAttribute("aria-valuenow", step);
        this.#svg.setAttribute("aria-valuetext", text);
    }
}

/** The range of the losses with a little room. A logarithmic one stays above zero. */
function padded(points, isLog) {
    let [low, high] = [Infinity, -Infinity];
    for (const [, loss] of points) {
        low = Math.min(low, loss);
        high = Math.max(high, loss);
    }
    if (isLog) return [Math.max(low, 1e-6) / 1.03, Math.max(high, 2e-6) * 1.03];
    const room = 0.04 * (high - low) || 0.5;
    return [Math.max(0, low - room), high + room];
}

/** A line through the points. In each column of pixels only the first, last, smallest and largest are drawn. */
function curve(name, points, x, y) {
    const parts = [];
    for (let index = 0; index < points.length;) {
        const column = Math.round(x(points[index][0]));
        let [low, high, end] = [index, index, index];
        while (end + 1 < points.length && Math.round(x(points[end + 1][0])) === column) {
            end += 1;
            if (points[end][1] < points[low][1]) low = end;
            if (points[end][1] > points[high][1]) high = end;
        }
        for (const at of [...new Set([index, low, high, end])].sort((a, b) => a - b)) {
            parts.push(`${x(points[at][0]).toFixed(1)} ${y(Math.max(points[at][1], 1e-6)).toFixed(1)}`);
        }
        index = end + 1;
    }
    return svgElement("path", { class: name, d: parts.length === 0 ? "" : `M${parts.join("L")}`, "data-points": points.length });
}

function dot(name, [step, loss], x, y) {
    return svgElement("circle", { class: name, cx: x(step), cy: y(Math.max(loss, 1e-6)), r: 3 });
}

/** The last point at or before a step, or null. */
function latest(points, step) {
    let [low, high] = [0, points.length];
    while (low < high) {
        const middle = (low + high) >> 1;
        if (points[middle][0] <= step) low = middle + 1;
        else high = middle;
    }
    return low === 0 ? null : points[low - 1];
}
