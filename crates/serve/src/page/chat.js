// The tab that chats. A conversation is a list of { role, content }, kept in the store.

import { streamChat } from "./api.js";
import { byId, element, setBusy } from "./dom.js";
import { Job } from "./job.js";
import { bindText, store, stored } from "./store.js";
import { TokenView } from "./tokens.js";

const NAMES = { user: "You", assistant: "Model" };
const TOUCH = window.matchMedia("(pointer: coarse)");

/** Connects the tab; returns the actions of its keyboard shortcuts. */
export function initChat({ panel, settings }) {
    const [input, system, list, scroller] = ["chat-input", "system", "messages", "chat-scroll"].map(byId);
    const [send, stop, regenerate, reset] = ["send", "chat-stop", "regenerate", "new-chat"].map(byId);
    const job = new Job({ notice: byId("chat-notice"), stats: byId("chat-stats"), name: "Answer", speaks: true });
    const messages = stored("messages", []);
    bindText(input, "message");
    bindText(system, "system");
    byId("system-details").open = system.value !== "";

    const changed = () => {
        store("messages", messages);
        regenerate.disabled = reset.disabled = messages.length === 0 || job.isRunning;
        for (const edit of list.querySelectorAll("button")) edit.disabled = job.isRunning;
    };

    /** Adds a message to the list on the page; returns the view of its text. */
    const show = ({ role, content }, index) => {
        const text = element("div", { class: "text" });
        const head = element("div", { class: "message-head" }, element("h3", {}, NAMES[role]));
        if (role === "user") {
            const edit = element("button", { type: "button", class: "quiet" }, "Edit");
            edit.addEventListener("click", () => editMessage(index));
            head.append(edit);
        }
        list.append(element("li", { class: `message ${role}`, "data-role": role }, head, text));
        const view = new TokenView(text, scroller, panel);
        view.appendText(content);
        return view;
    };

    const cut = (length) => {
        messages.length = length;
        while (list.childElementCount > length) list.lastElementChild.remove();
        panel.clear();
    };

    /** Puts a message back into the input, and drops it and everything after it. */
    const editMessage = (index) => {
        input.value = messages[index].content;
        input.dispatchEvent(new Event("input"));
        cut(index);
        changed();
        input.focus();
    };

    const answer = async (sampling) => {
        const prompt = system.value.trim() === "" ? [] : [{ role: "system", content: system.value }];
        const request = { model: byId("model").value, messages: [...prompt, ...messages], ...sampling };
        const view = show({ role: "assistant", content: "" }, messages.length);
        setBusy(send, stop, true);
        const done = job.run(view, (signal) => streamChat(request, signal));
        changed();
        await done;
        setBusy(send, stop, false);
        if (view.text === "") {
            list.lastElementChild.remove();
            if (input.value === "") editMessage(messages.length - 1); // The message can be sent again, or changed.
        } else messages.push({ role: "assistant", content: view.text });
        changed();
    };

    const start = async () => {
        const sampling = settings.request();
        const content = input.value;
        const isAnswered = messages.at(-1)?.role !== "user";
        if (sampling === null || job.isRunning || (content.trim() === "" && isAnswered)) return;
        if (content.trim() !== "") {
            messages.push({ role: "user", content });
            show(messages.at(-1), messages.length - 1);
            input.value = "";
            input.dispatchEvent(new Event("input"));
        }
        await answer(sampling);
    };

    byId("chat-form").addEventListener("submit", (event) => { event.preventDefault(); start(); });
    input.addEventListener("keydown", (event) => {
        const isPlain = event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.metaKey;
        if (!isPlain || event.isComposing || TOUCH.matches) return;
        event.preventDefault();
        start();
    });
    stop.addEventListener("click", () => job.stop());
    regenerate.addEventListener("click", () => {
        const sampling = settings.request();
        if (sampling === null || job.isRunning) return;
        if (messages.at(-1)?.role === "assistant") cut(messages.length - 1);
        answer(sampling);
    });
    reset.addEventListener("click", () => {
        cut(0);
        job.report(null);
        byId("chat-stats").textContent = "";
        changed();
        input.focus();
    });
    messages.forEach(show);
    changed();
    return { start, stop: () => job.stop() };
}
