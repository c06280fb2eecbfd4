// The API key: kept for this tab, or on this device if the user asks for it.

import { byId, setNotice } from "./dom.js";

const NAME = "kindling-api-key";
const details = byId("key-details");
const field = byId("key");
const remember = byId("key-remember");

/** The key to send, or an empty string. */
export const apiKey = () => field.value.trim();

/** Opens the key field with a message and focuses it. */
export function askForKey(message) {
    setNotice(byId("key-notice"), message);
    details.open = true;
    field.focus();
}

/** Fills the field from storage, and calls `changed` after the user has set another key. */
export function initKey(changed) {
    remember.checked = read(localStorage) !== null;
    field.value = read(localStorage) ?? read(sessionStorage) ?? "";
    showState();
    byId("key-form").addEventListener("submit", (event) => {
        event.preventDefault();
        save();
        setNotice(byId("key-notice"), null);
        details.open = false;
        byId("key-summary").focus();
        changed();
    });
    field.addEventListener("change", save);
    remember.addEventListener("change", save);
    details.addEventListener("keydown", (event) => {
        if (event.key !== "Escape" || !details.open) return;
        event.stopPropagation();
        details.open = false;
        byId("key-summary").focus();
    });
    document.addEventListener("pointerdown", (event) => {
        if (!details.contains(event.target)) details.open = false;
    });
}

function save() {
    write(localStorage, remember.checked ? apiKey() : "");
    write(sessionStorage, remember.checked ? "" : apiKey());
    showState();
}

function showState() {
    details.classList.toggle("is-set", apiKey() !== "");
}

function read(storage) {
    try {
        return storage.getItem(NAME);
    } catch {
        return null; // Storage is turned off.
    }
}

function write(storage, key) {
    try {
        if (key === "") storage.removeItem(NAME);
        else storage.setItem(NAME, key);
    } catch {
        // Storage is turned off. The field still has the key.
    }
}
