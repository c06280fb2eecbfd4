// Probabilities as text, and the five levels that tokens are marked with.

/** The lower bound of each level, from the most likely to the least. `style.css` has a mark for each. */
export const LEVELS = [0.8, 0.5, 0.2, 0.05, 0];

/** The level of a log-probability: 0 is the most likely. Null without one. */
export function levelOf(logprob) {
    if (!Number.isFinite(logprob)) return null;
    const probability = Math.exp(logprob);
    return LEVELS.findIndex((bound) => probability >= bound);
}

/** A probability in percent, such as `12.5 %`. */
export function percent(probability) {
    if (probability > 0 && probability < 0.0005) return "< 0.1 %";
    if (probability < 1 && probability >= 0.9995) return "> 99.9 %";
    return `${(100 * probability).toFixed(1)} %`;
}

/** The text of a token with its white space made visible, and the server's spelling of other tokens in words. */
export function visible(text) {
    if (text === "") return "(empty)";
    const special = /^token_id:(\d+)$/.exec(text);
    if (special) return `token ${special[1]}`;
    if (text.startsWith("bytes:")) return `bytes${text.slice(6).replaceAll("\\x", " ")}`;
    return text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll("\r", "␍");
}

/** The text of a token in words, for screen readers. */
export function spoken(text) {
    if (text === "") return "empty";
    if (text.trim() !== "") return visible(text.trim());
    return text.includes("\n") ? "line break" : "space";
}
