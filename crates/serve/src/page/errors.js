// Errors in words: the cause, and the next step for the user.

/** An error that is shown to the user as it is. `needsKey` is true if the server rejected the key. */
export class ApiError extends Error {
    constructor(message, { needsKey = false } = {}) {
        super(message);
        this.needsKey = needsKey;
    }
}

/** The error for a server that can't be reached. */
export const unreachable = () =>
    new ApiError(`The server at ${location.host} does not answer. Check that kindling serve runs, then try again.`);

/** The error for a stream that ended before its last event. */
export const interrupted = () =>
    new ApiError("The connection ended before the text was complete. The text so far is kept; try again for the rest.");

const NO_KEY = "This server needs an API key. Enter it, then try again.";
const WRONG_KEY = "The server rejected this API key. Enter another one, then try again.";
const NO_TEMPLATE = "The tab Complete works without one.";

/** The error of a response that failed. `hasKey` says whether the request had a key. */
export async function errorOf(response, hasKey) {
    const said = await serverMessage(response);
    switch (response.status) {
        case 401:
            return new ApiError(hasKey ? WRONG_KEY : NO_KEY, { needsKey: true });
        case 400:
            return new ApiError(/chat template/.test(said) ? `${capital(said)} ${NO_TEMPLATE}` : capital(said));
        case 429:
            return new ApiError(`The server is busy: ${said} ${retryAdvice(response.headers.get("retry-after"))}`);
        case 503:
            return new ApiError(`The server is not ready: ${said} ${retryAdvice(response.headers.get("retry-after"))}`);
        case 404:
            return new ApiError(`${capital(said)} Choose a model from the list.`);
        default:
            return new ApiError(response.status < 500 ? capital(said) : `The server failed: ${said} Its log may say why.`);
    }
}

/** The message in an error object of the API, as a sentence. */
export function sentence(message) {
    const text = String(message ?? "").trim();
    if (text === "") return "no reason was given.";
    return /[.!?]$/.test(text) ? text : `${text}.`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

async function serverMessage(response) {
    try {
        return sentence((await response.json()).error.message);
    } catch {
        return `HTTP status ${response.status}.`;
    }
}

function retryAdvice(seconds) {
    const wait = Number.parseInt(seconds ?? "", 10);
    if (!Number.isFinite(wait) || wait < 1) return "Try again in a moment.";
    return `Try again in ${wait} ${wait === 1 ? "second" : "seconds"}.`;
}
