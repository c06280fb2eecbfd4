// Generated text as tokens: marked by probability, reachable by mouse, touch and keyboard.

import { Aligner } from "./align.js";
import { levelOf } from "./probability.js";

/** The text of one generation in an element. Chunks are added once per frame, so thousands of tokens stay fast. */
export class TokenView {
    #element;
    #scroller;
    #panel;
    #tokens = [];
    #spans = [];
    #current = null;
    #text = "";
    #aligner = new Aligner();
    #pending = document.createDocumentFragment();
    #frame = 0;
    #follows = true;

    constructor(element, scroller, panel) {
        this.#element = element;
        this.#scroller = scroller;
        this.#panel = panel;
        element.addEventListener("pointerover", (event) => this.#show(event.target));
        element.addEventListener("focusin", (event) => this.#select(event.target));
        element.addEventListener("keydown", (event) => this.#onKey(event));
        scroller.addEventListener("scroll", () => {
            this.#follows = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 40;
        }, { passive: true });
    }

    /** The whole text. */
    get text() {
        return this.#text;
    }

    /** The number of tokens. */
    get length() {
        return this.#tokens.length;
    }

    clear() {
        cancelAnimationFrame(this.#frame);
        this.#frame = 0;
        this.#pending.replaceChildren();
        this.#element.replaceChildren();
        this.#element.removeAttribute("role");
        this.#tokens = [];
        this.#spans = [];
        this.#current = null;
        this.#text = "";
        this.#aligner = new Aligner();
        this.#follows = true;
        this.#panel.clear();
    }

    /** Adds a text without tokens. */
    appendText(text) {
        this.#text += text;
        this.#pending.append(text);
        this.#flush();
    }

    /** Adds a chunk of text and tokens, one span per token. */
    append(text, tokens) {
        this.#text += text;
        this.#addSpans(this.#aligner.push(text, tokens));
        this.#frame ||= requestAnimationFrame(() => this.#flush());
    }

    /** Shows everything that was added; call it at the end of a text. */
    finish() {
        this.#addSpans(this.#aligner.finish());
        this.#flush();
    }

    #addSpans(pieces) {
        for (const [token, piece] of pieces) this.#pending.append(token === null ? piece : this.#span(token, piece));
    }

    #flush() {
        cancelAnimationFrame(this.#frame);
        this.#frame = 0;
        this.#element.append(this.#pending);
        if (this.#tokens.length > 0 && !this.#element.hasAttribute("role")) {
            this.#element.setAttribute("role", "listbox");
            this.#element.setAttribute("aria-orientation", "horizontal");
            this.#element.setAttribute("aria-label", "Generated tokens");
            this.#spans[0].tabIndex = 0;
        }
        const isRead = this.#element.contains(document.activeElement);
        if (this.#follows && !isRead) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    }

    #span(token, piece) {
        const span = document.createElement("span");
        const level = levelOf(token.logprob);
        span.className = level === null ? "token" : `token level-${level}`;
        if (piece === "") span.classList.add("is-empty");
        if (piece.includes("\n")) span.classList.add("has-break");
        span.dataset.token = this.#tokens.length;
        span.setAttribute("role", "option");
        span.tabIndex = -1;
        span.textContent = piece;
        this.#tokens.push(token);
        this.#spans.push(span);
        return span;
    }

    #show(target) {
        const index = Number(target.dataset?.token ?? NaN);
        if (Number.isNaN(index)) return null;
        this.#panel.show(this.#tokens[index], index + 1);
        return index;
    }

    /** Makes a token the one that Tab returns to. */
    #select(target) {
        const index = this.#show(target);
        if (index === null) return;
        const before = this.#spans[this.#current ?? 0];
        before.tabIndex = -1;
        before.classList.remove("is-current");
        before.removeAttribute("aria-selected");
        before.removeAttribute("aria-describedby");
        this.#current = index;
        target.tabIndex = 0;
        target.classList.add("is-current");
        target.setAttribute("aria-selected", "true");
        target.setAttribute("aria-describedby", this.#panel.summaryId);
        target.scrollIntoView({ block: "nearest" }); // The panel may cover it in a narrow window.
    }

    #onKey(event) {
        if (event.ctrlKey || event.altKey || event.metaKey || this.#current === null) return;
        const last = this.#spans.length - 1;
        const moves = {
            ArrowRight: () => this.#current + 1,
            ArrowLeft: () => this.#current - 1,
            ArrowDown: () => this.#onOtherLine(1),
            ArrowUp: () => this.#onOtherLine(-1),
            Home: () => 0,
            End: () => last,
        };
        const move = moves[event.key];
        if (!move) return;
        event.preventDefault();
        this.#spans[Math.min(Math.max(move(), 0), last)].focus();
    }

    /** The token of the next or previous line that is closest to the current one. */
    #onOtherLine(direction) {
        const from = this.#spans[this.#current];
        let line = null;
        let best = this.#current;
        for (let index = this.#current + direction; this.#spans[index]; index += direction) {
            const { offsetTop, offsetLeft } = this.#spans[index];
            if (line === null && (offsetTop - from.offsetTop) * direction < 4) continue;
            line ??= offsetTop;
            if (Math.abs(offsetTop - line) > 4) break;
            const gap = Math.abs(offsetLeft - from.offsetLeft);
            if (best === this.#current || gap < Math.abs(this.#spans[best].offsetLeft - from.offsetLeft)) best = index;
        }
        return best;
    }
}
