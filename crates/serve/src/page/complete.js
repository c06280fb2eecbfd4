// The tab that completes a prompt.

import { streamCompletion } from "./api.js";
import { byId, setBusy } from "./dom.js";
import { Job } from "./job.js";
import { bindText, setText } from "./store.js";
import { TokenView } from "./tokens.js";

/** Connects the tab; returns the actions of its keyboard shortcuts. */
export function initComplete({ panel, settings }) {
    const prompt = byId("prompt");
    const [generate, stop, add, copy] = ["generate", "stop", "add-to-prompt", "copy"].map(byId);
    const view = new TokenView(byId("output"), byId("output-scroll"), panel);
    const job = new Job({ notice: byId("complete-notice"), stats: byId("stats"), name: "Output", speaks: true });
    bindText(prompt, "prompt");

    const start = async () => {
        const sampling = settings.request();
        if (sampling === null || job.isRunning) return;
        view.clear();
        setBusy(generate, stop, true);
        add.disabled = copy.disabled = true;
        const request = { model: byId("model").value, prompt: prompt.value, ...sampling };
        await job.run(view, (signal) => streamCompletion(request, signal));
        setBusy(generate, stop, false);
        add.disabled = copy.disabled = view.text === "";
    };

    byId("complete-form").addEventListener("submit", (event) => { event.preventDefault(); start(); });
    stop.addEventListener("click", () => job.stop());
    add.addEventListener("click", () => {
        setText("prompt", prompt.value + view.text);
        view.clear();
        byId("stats").textContent = "";
        add.disabled = copy.disabled = true;
        prompt.focus();
        prompt.setSelectionRange(prompt.value.length, prompt.value.length);
        prompt.scrollTop = prompt.scrollHeight;
    });
    copy.hidden = !navigator.clipboard; // Browsers offer it to localhost and HTTPS only.
    copy.addEventListener("click", async () => {
        await navigator.clipboard.writeText(view.text);
        copy.textContent = "Copied";
        setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
    return { start, stop: () => job.stop() };
}
