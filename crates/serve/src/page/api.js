// The requests to the server. Streams of both kinds become chunks of one form:
// { text, tokens: [{ text, logprob, rivals: [{ text, logprob }] }], finish, usage }.

import { ApiError, errorOf, interrupted, sentence, unreachable } from "./errors.js";
import { eventData } from "./events.js";
import { apiKey } from "./key.js";

/** The page may be served below a path, so all addresses are relative to it. */
const ROOT = new URL("../", import.meta.url);

/** The number of most likely tokens to ask for at each position. */
const N_RIVALS = 8;

/** The ids of the models. */
export const listModels = async () => (await getJson("v1/models")).data.map((model) => model.id);

/** All runs, the newest first. */
export const listRuns = (signal) => getJson("api/runs", signal);

/** The losses of a run: `{ train: [[step, loss]], val: [[step, loss]] }`. */
export const runLosses = (name, signal) => getJson(`api/runs/${encodeURIComponent(name)}/losses`, signal);

/** Streams the completion of a prompt. */
export async function* streamCompletion(request, signal) {
    const body = { ...request, logprobs: N_RIVALS };
    for await (const { choice, usage } of streamChoices("v1/completions", body, signal)) {
        const tokens = completionTokens(choice?.logprobs);
        yield { text: choice?.text ?? "", tokens, finish: choice?.finish_reason ?? null, usage };
    }
}

/** Streams the next message of a conversation. */
export async function* streamChat(request, signal) {
    const body = { ...request, logprobs: true, top_logprobs: N_RIVALS };
    for await (const { choice, usage } of streamChoices("v1/chat/completions", body, signal)) {
        const tokens = (choice?.logprobs?.content ?? []).map(chatToken);
        yield { text: choice?.delta?.content ?? "", tokens, finish: choice?.finish_reason ?? null, usage };
    }
}

async function* streamChoices(path, request, signal) {
    const body = { ...request, stream: true, stream_options: { include_usage: true } };
    const response = await send(path, { method: "POST", body: JSON.stringify(body), signal });
    try {
        for await (const data of eventData(response)) {
            if (data === "[DONE]") return;
            const chunk = JSON.parse(data);
            if (chunk.error) throw new ApiError(`The server stopped: ${sentence(chunk.error.message)}`);
            yield { choice: chunk.choices?.[0] ?? null, usage: chunk.usage ?? null };
        }
    } catch (error) {
        if (error instanceof TypeError) throw interrupted(); // The connection broke.
        throw error;
    }
    throw interrupted();
}

async function getJson(path, signal) {
    return (await send(path, { signal })).json();
}

async function send(path, { method = "GET", body, signal }) {
    const headers = {};
    if (body !== undefined) headers["content-type"] = "application/json";
    if (apiKey() !== "") headers.authorization = `Bearer ${apiKey()}`;
    let response;
    try {
        response = await fetch(new URL(path, ROOT), { method, body, headers, signal, cache: "no-store" });
    } catch (error) {
        throw error.name === "AbortError" ? error : unreachable();
    }
    if (!response.ok) throw await errorOf(response, apiKey() !== "");
    return response;
}

function completionTokens(logprobs) {
    if (!logprobs) return [];
    return logprobs.tokens.map((text, index) => ({
        text,
        logprob: logprobs.token_logprobs[index],
        rivals: sorted(Object.entries(logprobs.top_logprobs?.[index] ?? {})),
    }));
}

function chatToken({ token, logprob, top_logprobs }) {
    return { text: token, logprob, rivals: sorted((top_logprobs ?? []).map((top) => [top.token, top.logprob])) };
}

function sorted(pairs) {
    return pairs.map(([text, logprob]) => ({ text, logprob })).sort((a, b) => b.logprob - a.logprob);
}
