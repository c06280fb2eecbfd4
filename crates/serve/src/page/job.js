// A generation that the user starts and stops, with its view, statistics and errors.

import { Narrator, announce } from "./announcer.js";
import { setNotice } from "./dom.js";
import { generate, statsText } from "./generation.js";
import { askForKey } from "./key.js";

/** At most one generation at a time in one view. */
export class Job {
    #abort = null;
    #notice;
    #stats;
    #name;

    /** `name` is announced with the end of a generation; with `speaks`, the text is announced too. */
    constructor({ notice, stats, name, speaks }) {
        this.#notice = notice;
        this.#stats = stats;
        this.#name = name;
        this.speaks = speaks;
    }

    get isRunning() {
        return this.#abort !== null;
    }

    stop() {
        this.#abort?.abort();
    }

    /** Shows a problem, and focuses the key field if a key is missing. Null hides the last one. */
    report(error) {
        setNotice(this.#notice, error?.message ?? null);
        if (error?.needsKey) askForKey(error.message);
    }

    /** Streams into `view`. `open` gets an abort signal and returns the chunks. Resolves at the end, also after errors. */
    async run(view, open) {
        this.stop();
        const abort = new AbortController();
        this.#abort = abort;
        this.report(null);
        this.#stats.textContent = "waiting for the first token";
        const narrator = new Narrator();
        let last = null;
        try {
            const finished = await generate(open(abort.signal), view, {
                onText: (text) => { if (this.speaks) narrator.add(text); },
                onStats: (stats) => { last = stats; this.#stats.textContent = statsText(stats); },
            });
            narrator.flush();
            announce(`${this.#name} finished: ${statsText(finished)}`);
        } catch (error) {
            const wasStopped = abort.signal.aborted;
            const partial = { ...(last ?? { nTokens: 0, firstMs: null, perSecond: null }), finish: wasStopped ? "stopped" : null };
            this.#stats.textContent = statsText(partial);
            if (wasStopped) announce(`${this.#name} stopped`);
            else this.report(error);
        } finally {
            view.finish();
            this.#abort = null;
        }
    }
}
