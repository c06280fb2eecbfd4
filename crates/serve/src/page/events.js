// Server-sent events.

/** Yields the data of each event of a response. */
export async function* eventData(response) {
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    let rest = "";
    try {
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            rest += decoder.decode(value, { stream: true });
            const events = rest.split(/\r?\n\r?\n/);
            rest = events.pop();
            for (const event of events) {
                const data = dataOf(event);
                if (data !== "") yield data;
            }
        }
    } finally {
        reader.cancel().catch(() => {}); // Closes the connection also when the consumer leaves early.
    }
}

/** The lines of data of one event. Comments, which keep a connection alive, have none. */
function dataOf(event) {
    const lines = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
    return lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
}
