// The tab that runs one prompt with two models or two settings at the same time.

import { streamCompletion } from "./api.js";
import { byId, setBusy } from "./dom.js";
import { Job } from "./job.js";
import { bindModels } from "./models.js";
import { Settings } from "./settings.js";
import { bindText } from "./store.js";
import { TokenView } from "./tokens.js";

/** One side of the comparison. */
class Column {
    #select;
    #settings;
    #view;
    #job;

    constructor(parent, letter, panel) {
        const id = letter.toLowerCase();
        const root = byId("column").content.cloneNode(true).firstElementChild;
        this.#select = root.querySelector("select");
        this.#select.id = this.#select.dataset.testid = `model-${id}`;
        const label = root.querySelector("label");
        label.textContent = `Model ${letter}`;
        label.htmlFor = this.#select.id;
        root.setAttribute("aria-label", `Side ${letter}`);
        const text = root.querySelector(".text");
        text.id = text.dataset.testid = `output-${id}`;
        parent.append(root);
        bindModels(this.#select, `model-${id}`);
        this.#settings = new Settings(root.querySelector(".column-settings"), `compare-${id}`, { isOpen: false });
        this.#view = new TokenView(text, root.querySelector(".scroll"), panel);
        const [notice, stats] = [root.querySelector(".notice"), root.querySelector(".stats")];
        this.#job = new Job({ notice, stats, name: `Side ${letter}`, speaks: false });
    }

    /** The request, or null if a setting is invalid. */
    request(prompt) {
        const sampling = this.#settings.request();
        return sampling && { model: this.#select.value, prompt, ...sampling };
    }

    run(request) {
        this.#view.clear();
        return this.#job.run(this.#view, (signal) => streamCompletion(request, signal));
    }

    stop() {
        this.#job.stop();
    }
}

/** Connects the tab; returns the actions of its keyboard shortcuts. */
export function initCompare({ panel }) {
    const prompt = byId("compare-prompt");
    const [generate, stopButton] = ["compare-generate", "compare-stop"].map(byId);
    const columns = ["A", "B"].map((letter) => new Column(byId("pair"), letter, panel));
    bindText(prompt, "prompt");

    const start = async () => {
        const requests = columns.map((column) => column.request(prompt.value));
        if (requests.includes(null) || generate.disabled) return;
        setBusy(generate, stopButton, true);
        await Promise.all(columns.map((column, index) => column.run(requests[index])));
        setBusy(generate, stopButton, false);
    };
    const stop = () => columns.forEach((column) => column.stop());

    byId("compare-form").addEventListener("submit", (event) => { event.preventDefault(); start(); });
    stopButton.addEventListener("click", stop);
    return { start, stop };
}
