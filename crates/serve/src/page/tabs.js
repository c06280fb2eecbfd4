// The tabs. The address ends in the name of the tab shown, so that it can be linked to.

import { byId } from "./dom.js";
import { store, stored } from "./store.js";

/** Shows one of several panels: `tab-NAME` is the button of `panel-NAME`. */
export class Tabs {
    #names;
    #changed;

    /** `changed` gets the names of the tab shown and of the one before, which is null at the start. */
    constructor(names, changed) {
        this.#names = names;
        this.#changed = changed;
        this.shown = null;
        names.forEach((name, index) => {
            byId(`tab-${name}`).addEventListener("click", () => this.show(name));
            byId(`tab-${name}`).addEventListener("keydown", (event) => this.#onKey(event, index));
        });
        window.addEventListener("hashchange", () => this.#showLinked());
        this.show(this.#linked() ?? stored("tab", names[0]));
    }

    show(name) {
        if (name === this.shown) return;
        const before = this.shown;
        this.shown = name;
        for (const other of this.#names) {
            const tab = byId(`tab-${other}`);
            tab.setAttribute("aria-selected", String(other === name));
            tab.tabIndex = other === name ? 0 : -1;
            byId(`panel-${other}`).hidden = other !== name;
        }
        byId("layout").dataset.tab = name;
        store("tab", name);
        history.replaceState(null, "", `#${name}`);
        this.#changed(name, before);
    }

    #onKey(event, index) {
        const n = this.#names.length;
        const target = { ArrowRight: index + 1, ArrowLeft: index - 1 + n, Home: 0, End: n - 1 }[event.key];
        if (target === undefined) return;
        event.preventDefault();
        const name = this.#names[target % n];
        this.show(name);
        byId(`tab-${name}`).focus();
    }

    /** The tab that the address names, or null. */
    #linked() {
        const name = location.hash.slice(1);
        return this.#names.includes(name) ? name : null;
    }

    #showLinked() {
        const name = this.#linked();
        if (name !== null) this.show(name);
    }
}
