// Speech for screen readers: a polite live region that receives whole phrases instead of single tokens.

import { byId, element } from "./dom.js";

const MAX_PHRASES = 20;
const MAX_WAIT_MS = 3000;

/** Announces one phrase. */
export function announce(text) {
    const region = byId("announcer");
    region.append(element("p", {}, text));
    while (region.childElementCount > MAX_PHRASES) region.firstElementChild.remove();
}

/** Collects streamed text, and announces it at the end of a sentence or after three seconds. */
export class Narrator {
    #text = "";
    #since = 0;

    add(text) {
        if (this.#text === "") this.#since = performance.now();
        this.#text += text;
        const isLate = performance.now() - this.#since > MAX_WAIT_MS && /\s/.test(text);
        if (isLate || /[.!?\n]\s*$/.test(this.#text)) this.flush();
    }

    flush() {
        if (this.#text.trim() !== "") announce(this.#text);
        this.#text = "";
    }
}
