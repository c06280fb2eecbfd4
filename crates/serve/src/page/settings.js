// The sampling controls: one form from a table of fields, for a tab or for one side of a comparison.

import { element } from "./dom.js";
import { store, stored } from "./store.js";

const FIELDS = [
    { name: "temperature", label: "Temperature", value: 1, min: 0, max: 2, step: 0.01, slider: true },
    { name: "top_p", label: "Top-p", value: 1, min: 0.01, max: 1, step: 0.01, slider: true },
    { name: "min_p", label: "Min-p", value: 0, min: 0, max: 1, step: 0.01, slider: true },
    { name: "repetition_penalty", label: "Repetition penalty", value: 1, min: 0.5, max: 2, step: 0.01, slider: true },
    { name: "top_k", label: "Top-k", value: "", min: 1, step: 1, empty: "all" },
    { name: "max_tokens", label: "Max tokens", value: 128, min: 1, step: 1 },
    { name: "seed", label: "Seed", value: "", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, empty: "random" },
];

const WIDE = window.matchMedia("(min-width: 900px)");

/** The controls of one request, stored under a name. */
export class Settings {
    #name;
    #form;
    #gist = element("span", { class: "gist" });
    #details;
    #inputs = new Map();
    #sliders = new Map();

    /** Builds the form in `parent`. It starts open if `isOpen` says so and the window is wide. */
    constructor(parent, name, { isOpen }) {
        this.#name = name;
        this.#form = element("form", { class: "settings" });
        for (const field of FIELDS) this.#form.append(this.#field(field));
        this.#form.append(this.#stopField(), this.#resetButton());
        const summary = element("summary", {}, "Sampling ", this.#gist);
        this.#details = element("details", { class: "sampling", open: isOpen && WIDE.matches }, summary, this.#form);
        parent.append(this.#details);
        this.#fill(stored(name, {}));
        this.#form.addEventListener("input", (event) => this.#changed(event.target));
        this.#form.addEventListener("submit", (event) => event.preventDefault());
    }

    /** The fields of a request. Null if a value is invalid; the form then says which and why. */
    request() {
        if (!this.#form.checkValidity()) {
            this.#details.open = true;
            this.#form.reportValidity();
            return null;
        }
        const request = {};
        for (const { name } of FIELDS) {
            const { value } = this.#inputs.get(name);
            if (value !== "") request[name] = Number(value);
        }
        const stop = stopStrings(this.#inputs.get("stop").value);
        if (stop.length > 0) request.stop = stop;
        return request;
    }

    #field({ name, label, value, min, max = null, step, slider = false, empty = null }) {
        const id = `${this.#name}-${name}`;
        const bounds = { min, max, step };
        const input = element("input", {
            id, name, type: "number", inputmode: "decimal", required: empty === null, placeholder: empty, ...bounds,
        });
        this.#inputs.set(name, input);
        const row = element("div", { class: slider ? "field with-slider" : "field" },
            element("label", { for: id }, label), input);
        if (slider) {
            // The number beside it does the same for keyboards and screen readers.
            const range = element("input", { type: "range", tabindex: -1, "aria-hidden": "true", value, ...bounds });
            range.addEventListener("input", () => { input.value = range.value; });
            input.addEventListener("input", () => { range.value = input.value; });
            this.#sliders.set(name, range);
            row.append(range);
        }
        return row;
    }

    #stopField() {
        const id = `${this.#name}-stop`;
        const hint = element("span", { class: "hint", id: `${id}-hint` }, "one per line, \\n for a line break");
        const input = element("textarea", { id, name: "stop", rows: 2, spellcheck: "false", "aria-describedby": hint.id });
        this.#inputs.set("stop", input);
        return element("div", { class: "field stop-field" }, element("label", { for: id }, "Stop strings"), hint, input);
    }

    #resetButton() {
        const reset = element("button", { type: "button", class: "quiet" }, "Restore defaults");
        reset.addEventListener("click", () => {
            this.#fill({});
            store(this.#name, {});
        });
        return reset;
    }

    #fill(values) {
        for (const { name, value } of FIELDS) this.#set(name, values[name] ?? value);
        this.#set("stop", values.stop ?? "");
        this.#showGist();
    }

    #set(name, value) {
        this.#inputs.get(name).value = value;
        const slider = this.#sliders.get(name);
        if (slider) slider.value = value;
    }

    #changed() {
        store(this.#name, Object.fromEntries([...this.#inputs].map(([name, input]) => [name, input.value])));
        this.#showGist();
    }

    /** The values that differ from the defaults, beside the title of the closed form. */
    #showGist() {
        const parts = FIELDS
            .map((field) => ({ ...field, now: this.#inputs.get(field.name).value }))
            .filter(({ now, value, name }) => name === "max_tokens" || now !== String(value))
            .map(({ label, now }) => `${label.toLowerCase()} ${now}`);
        this.#gist.textContent = parts.join(", ");
    }
}

/** One string per line. `\n` and `\t` are escapes, `\\` is a backslash. */
export function stopStrings(text) {
    const unescape = (line) => line.replace(/\\([nt\\])/g, (_, c) => ({ n: "\n", t: "\t", "\\": "\\" })[c]);
    return text.split("\n").filter((line) => line !== "").map(unescape);
}
