// The panel with the probability of one token and of its rivals.

import { element } from "./dom.js";
import { LEVELS, percent, spoken, visible } from "./probability.js";

const MAX_ROWS = 8;

/** The panel. All views of tokens share it. */
export class TokenPanel {
    #panel;
    #summary = element("p", { class: "visually-hidden", id: "token-summary" });

    constructor(panel) {
        this.#panel = panel;
        this.clear();
    }

    /** The id of a description in words of the token shown. */
    get summaryId() {
        return this.#summary.id;
    }

    /** Explains the marks, and how to reach a token. */
    clear() {
        const labels = LEVELS.map((bound, level) => {
            const text = bound === 0 ? `under ${percentOf(LEVELS[level - 1])}` : `${percentOf(bound)} or more`;
            return element("li", {}, element("span", { class: `token level-${level}` }, text));
        });
        this.#panel.classList.remove("has-token");
        this.#panel.replaceChildren(
            element("p", { class: "hint" }, "Point at a token, tap it, or move to it with Tab and the arrow keys to see its rivals."),
            element("ul", { class: "legend", "aria-label": "Marks by probability" }, ...labels),
            this.#summary,
        );
    }

    /** Shows a token, which is the `position`th of its text. */
    show(token, position) {
        const rows = rowsOf(token);
        this.#panel.classList.add("has-token");
        this.#summary.textContent = summaryOf(token, rows);
        this.#panel.replaceChildren(
            element("div", { class: "chosen" },
                element("code", { class: "chosen-text" }, visible(token.text)),
                element("p", { class: "chosen-probability" }, probabilityOf(token)),
                element("p", { class: "hint" }, `token ${position}${logprobOf(token)}`)),
            element("ol", { class: "rivals", "aria-label": "Most likely tokens" }, ...rows.map(rowElement)),
            this.#summary,
        );
    }
}

const percentOf = (probability) => `${Math.round(100 * probability)} %`;
const isKnown = (token) => Number.isFinite(token.logprob);
const probabilityOf = (token) => (isKnown(token) ? percent(Math.exp(token.logprob)) : "no probability");
const logprobOf = (token) => (isKnown(token) ? `, log-probability ${token.logprob.toFixed(3).replace("-", "−")}` : "");

/** The rivals with the chosen token among them, and the rest of the probability. */
function rowsOf(token) {
    const rows = token.rivals.slice(0, MAX_ROWS).map((rival) => ({
        text: rival.text,
        probability: Math.exp(rival.logprob),
        isChosen: rival.text === token.text && Math.abs(rival.logprob - token.logprob) < 1e-4,
    }));
    if (isKnown(token) && rows.length > 0 && !rows.some((row) => row.isChosen)) {
        if (rows.length === MAX_ROWS) rows.pop();
        rows.push({ text: token.text, probability: Math.exp(token.logprob), isChosen: true });
        rows.sort((a, b) => b.probability - a.probability);
    }
    return rows;
}

function rowElement({ text, probability, isChosen }) {
    const fill = element("span", { class: "fill" });
    fill.style.width = `${100 * probability}%`;
    return element("li", { class: isChosen ? "is-chosen" : null },
        element("code", {}, visible(text)),
        element("span", { class: "track", "aria-hidden": "true" }, fill),
        element("span", { class: "number" }, percent(probability)),
        ...(isChosen ? [element("span", { class: "visually-hidden" }, "chosen")] : []));
}

function summaryOf(token, rows) {
    const rivals = rows.filter((row) => !row.isChosen).slice(0, 3);
    const list = rivals.map((row) => `${spoken(row.text)} ${percent(row.probability)}`).join(", ");
    return `${probabilityOf(token)}${list === "" ? "" : `; rivals: ${list}`}`;
}
