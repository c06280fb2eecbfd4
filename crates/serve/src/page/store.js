// Values that survive a reload, in localStorage. The API key is not among them: see key.js.

const KEY = "kindling-playground";

const values = load();
let timer = null;

/** The stored value, or the default. */
export const stored = (name, otherwise) => values[name] ?? otherwise;

/** Stores a value soon. */
export function store(name, value) {
    values[name] = value;
    timer ??= setTimeout(save, 200);
}

/** Keeps the text of an input, and of every other input with the same name, in the store. */
export function bindText(input, name) {
    input.value = stored(name, "");
    input.addEventListener("input", () => setText(name, input.value));
    document.addEventListener(`store:${name}`, (event) => {
        if (input.value !== event.detail) input.value = event.detail;
    });
}

/** Stores a text and shows it in all inputs bound to it. */
export function setText(name, text) {
    store(name, text);
    document.dispatchEvent(new CustomEvent(`store:${name}`, { detail: text }));
}

function load() {
    try {
        return JSON.parse(localStorage.getItem(KEY)) ?? {};
    } catch {
        return {}; // Damaged, or storage is turned off.
    }
}

function save() {
    clearTimeout(timer);
    timer = null;
    try {
        localStorage.setItem(KEY, JSON.stringify(values));
    } catch {
        // Storage is full or turned off. The page works without it.
    }
}

window.addEventListener("pagehide", save);
