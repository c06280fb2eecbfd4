// Which part of a streamed text belongs to which token.

/**
 * Divides a text that arrives in chunks among its tokens: one piece per token, which joined give the text again.
 *
 * Most tokens are their own piece. The server holds text back that may be the start of a stop string, so a token may
 * arrive before its text. Tokens that are bytes of one character have no text of their own: the last one gets the
 * character. Special tokens, and tokens cut off by a stop string, have an empty piece.
 */
export class Aligner {
    #waiting = [];
    #rest = "";

    /** Adds a chunk. Returns the pieces known by now, as `[token, piece]`; text without tokens has null for the token. */
    push(text, tokens) {
        this.#rest += text;
        this.#waiting.push(...tokens);
        const pieces = [];
        while (this.#waiting.length > 0 && this.#rest !== "") {
            const own = this.#waiting[0].text;
            if (own !== "" && this.#rest.startsWith(own)) this.#take(1, own.length, pieces);
            else if (own.startsWith(this.#rest)) break; // More of its text will arrive.
            else this.#skip(pieces);
        }
        if (this.#waiting.length === 0 && this.#rest !== "") {
            pieces.push([null, this.#rest]);
            this.#rest = "";
        }
        return pieces;
    }

    /** The pieces of the tokens that still wait for text. */
    finish() {
        const pieces = [];
        if (this.#waiting.length > 0) this.#take(this.#waiting.length, this.#rest.length, pieces);
        return pieces;
    }

    /** Gives the text before the next token that occurs in it to the tokens before that one. */
    #skip(pieces) {
        for (let index = 1; index < this.#waiting.length; index++) {
            const { text } = this.#waiting[index];
            const start = text === "" ? -1 : this.#rest.indexOf(text);
            if (start >= 0) return this.#take(index, start, pieces);
        }
        this.#take(this.#waiting.length, this.#rest.length, pieces);
    }

    /** Gives `length` characters to the last of the first `count` tokens, and nothing to those before it. */
    #take(count, length, pieces) {
        const taken = this.#waiting.splice(0, count);
        const piece = this.#rest.slice(0, length);
        this.#rest = this.#rest.slice(length);
        taken.forEach((token, index) => pieces.push([token, index === count - 1 ? piece : ""]));
    }
}
