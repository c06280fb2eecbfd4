// The playground: connects the tabs, the shared controls and the keyboard shortcuts.

import { initChat } from "./chat.js";
import { initCompare } from "./compare.js";
import { initComplete } from "./complete.js";
import { byId } from "./dom.js";
import { initKey } from "./key.js";
import { bindModels, refreshModels } from "./models.js";
import { initRuns } from "./runs.js";
import { Settings } from "./settings.js";
import { Tabs } from "./tabs.js";
import { TokenPanel } from "./token-panel.js";

const panel = new TokenPanel(byId("token-panel"));
const settings = new Settings(byId("settings"), "sampling", { isOpen: true });
bindModels(byId("model"), "model");

const actions = {
    complete: initComplete({ panel, settings }),
    chat: initChat({ panel, settings }),
    compare: initCompare({ panel }),
    runs: initRuns(),
};
const tabs = new Tabs(["complete", "chat", "compare", "runs"], (shown, hidden) => {
    actions[hidden]?.hide?.();
    actions[shown].show?.();
    if (hidden) panel.clear();
});

document.addEventListener("keydown", (event) => {
    const { start, stop } = actions[tabs.shown];
    if (event.key === "Escape") stop?.();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && start) {
        event.preventDefault();
        start();
    }
});

initKey(() => {
    refreshModels();
    actions[tabs.shown].show?.();
});
refreshModels();
