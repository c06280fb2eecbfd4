// The list of models, in every select that chooses one.

import { listModels } from "./api.js";
import { byId } from "./dom.js";
import { askForKey } from "./key.js";
import { store, stored } from "./store.js";

const RETRY_MS = 3000;
const selects = [];
let ids = null;
let timer = null;

/** Fills a select with the models, and stores the choice under a name. */
export function bindModels(select, name) {
    selects.push({ select, name });
    select.addEventListener("change", () => store(name, select.value));
    select.addEventListener("focus", refreshModels);
    if (ids !== null) fill(select, name);
}

/** Asks the server for its models. Repeats this while the server does not answer and the page is visible. */
export async function refreshModels() {
    clearTimeout(timer);
    const toast = byId("connection");
    try {
        const listed = await listModels();
        toast.hidden = true;
        if (listed.join("\n") === ids?.join("\n")) return;
        ids = listed;
        for (const { select, name } of selects) fill(select, name);
    } catch (error) {
        if (error.needsKey) return askForKey(error.message);
        toast.textContent = error.message;
        toast.hidden = false;
        timer = setTimeout(() => { if (!document.hidden) refreshModels(); }, RETRY_MS);
    }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) refreshModels(); });

function fill(select, name) {
    const chosen = stored(name, "");
    select.replaceChildren(...ids.map((id) => new Option(id, id, false, id === chosen)));
    select.disabled = ids.length === 0;
    if (ids.length === 0) select.append(new Option("no models"));
}
