// The tab with the runs: a list, and the loss curve of one run, both up to date while the tab is visible.

import { listRuns, runLosses } from "./api.js";
import { LossChart } from "./chart.js";
import { byId, element, setNotice } from "./dom.js";
import { askForKey } from "./key.js";
import { store, stored } from "./store.js";

const POLL_MS = 2000;

/** Connects the tab; returns the actions for showing and hiding it. */
export function initRuns() {
    const rows = new Map();
    const chart = new LossChart(byId("loss-curve"), byId("curve-readout"), byId("curve-empty"));
    const logScale = byId("log-scale");
    let runs = [];
    let chosen = stored("run", null);
    let drawn = null;
    let isShown = false;
    let timer = null;

    const poll = async () => {
        clearTimeout(timer);
        if (!isShown || document.hidden) return;
        try {
            runs = await listRuns();
            setNotice(byId("runs-notice"), null);
            showList();
            await showChosen();
        } catch (error) {
            setNotice(byId("runs-notice"), error.message);
            if (error.needsKey) return askForKey(error.message);
        }
        clearTimeout(timer);
        timer = setTimeout(poll, POLL_MS);
    };

    const showList = () => {
        byId("runs-empty").hidden = runs.length > 0;
        for (const [name, row] of rows) {
            if (runs.some((run) => run.name === name)) continue;
            row.remove();
            rows.delete(name);
        }
        runs.forEach((run, index) => {
            if (!rows.has(run.name)) rows.set(run.name, newRow(run.name));
            const row = rows.get(run.name);
            updateRow(row, run);
            const list = byId("runs");
            if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
        });
    };

    const newRow = (name) => {
        const button = element("button", { type: "button", "data-run": name },
            element("span", { class: "run-name" }, name),
            element("span", { class: "run-state" }),
            element("span", { class: "run-step" }),
            element("span", { class: "run-loss" }));
        button.addEventListener("click", () => {
            chosen = name;
            store("run", name);
            showList();
            showChosen().catch((error) => setNotice(byId("runs-notice"), error.message));
        });
        return element("li", {}, button);
    };

    const updateRow = (row, run) => {
        setText(row.querySelector(".run-state"), run.is_training ? "training" : age(run.modified));
        row.querySelector(".run-state").classList.toggle("is-training", run.is_training);
        setText(row.querySelector(".run-step"), steps(run));
        setText(row.querySelector(".run-loss"), run.val_loss === null ? "" : `validation ${run.val_loss.toFixed(3)}`);
        const isChosen = run.name === chosen;
        row.firstElementChild.setAttribute("aria-current", String(isChosen));
    };

    const showChosen = async () => {
        const run = runs.find(({ name }) => name === chosen) ?? runs[0];
        byId("run-detail").hidden = run === undefined;
        if (run === undefined) return;
        if (run.name !== chosen) {
            chosen = run.name;
            showList();
        }
        setText(byId("run-name"), run.name);
        setText(byId("run-facts"), facts(run));
        const version = JSON.stringify([run.name, run.step, run.modified]);
        if (version === drawn) return;
        const losses = await runLosses(run.name);
        if (run.name !== chosen) return;
        drawn = version;
        chart.draw(run.name, losses, logScale.checked);
    };

    logScale.checked = stored("log-scale", false);
    logScale.addEventListener("change", () => {
        store("log-scale", logScale.checked);
        chart.setLog(logScale.checked);
    });
    document.addEventListener("visibilitychange", poll);
    return {
        show: () => { isShown = true; poll(); },
        hide: () => { isShown = false; clearTimeout(timer); },
    };
}

/** Changes a text only if it differs, so that a selection in it stays. */
function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
}

const number = (value) => value.toLocaleString("en");

function steps({ step, max_steps: max }) {
    if (step === null) return "no steps";
    return max === null ? `step ${number(step)}` : `step ${number(step)} of ${number(max)}`;
}

function facts(run) {
    const losses = [["training", run.train_loss], ["validation", run.val_loss], ["best validation", run.best_val_loss]]
        .filter(([, loss]) => Number.isFinite(loss))
        .map(([name, loss]) => `${name} loss ${loss.toFixed(3)}`);
    return [steps(run), ...losses].join(" · ");
}

/** How long ago a Unix time in seconds or an ISO date was. */
function age(modified) {
    const time = typeof modified === "number" ? 1000 * modified : Date.parse(modified);
    const minutes = Math.floor((Date.now() - time) / 60_000);
    if (!Number.isFinite(minutes)) return "";
    if (minutes < 1) return "just now";
    if (minutes < 60) return `${minutes} min ago`;
    if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ago`;
    return `${Math.floor(minutes / 1440)} days ago`;
}
