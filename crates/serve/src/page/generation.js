// One generation: from the stream to the view, with its speed.

/**
 * Shows the chunks of a stream in `view` and returns the statistics.
 *
 * `onText` receives each piece of text, and `stats` an object after each chunk; the last one is also returned.
 */
export async function generate(chunks, view, { onText, onStats }) {
    const started = performance.now();
    const stats = { nTokens: 0, firstMs: null, perSecond: null, finish: null };
    let first = null;
    for await (const { text, tokens, finish, usage } of chunks) {
        const time = performance.now();
        if (text !== "" || tokens.length > 0) {
            if (first === null) {
                first = { time, nTokens: Math.max(tokens.length, 1) };
                stats.firstMs = time - started;
            }
            stats.nTokens += Math.max(tokens.length, 1);
            // The first chunk contains the prefill, so it starts the clock.
            const since = stats.nTokens - first.nTokens;
            if (since > 0) stats.perSecond = (1000 * since) / (time - first.time);
            view.append(text, tokens);
            onText(text);
        }
        if (usage) stats.nTokens = usage.completion_tokens;
        stats.finish = finish ?? stats.finish;
        onStats(stats);
    }
    return stats;
}

/** Statistics in words. */
export function statsText({ nTokens, firstMs, perSecond, finish }) {
    if (firstMs === null) return finish === null ? "" : "no tokens";
    const parts = [`${nTokens} ${nTokens === 1 ? "token" : "tokens"}`];
    if (perSecond !== null && Number.isFinite(perSecond)) parts.push(`${perSecond.toFixed(1)} tokens/s`);
    parts.push(`first after ${duration(firstMs)}`);
    if (finish === "length") parts.push("reached the maximum");
    if (finish === "stopped") parts.push("stopped");
    return parts.join(" · ");
}

function duration(ms) {
    return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
