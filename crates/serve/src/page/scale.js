// Axes of a chart: from values to pixels, and the values to label.

/** A linear or logarithmic scale from [low, high] to the pixels [from, to]. */
export function scale([low, high], [from, to], isLog) {
    const map = isLog ? Math.log10 : (value) => value;
    const [start, end] = [map(low), map(high)];
    const span = end - start || 1;
    return (value) => from + ((map(value) - start) / span) * (to - from);
}

/** About `count` round values in [low, high]. */
export function ticks([low, high], count) {
    const rough = (high - low || 1) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    const values = [];
    for (let index = Math.ceil(low / step); index * step <= high + step * 1e-9; index++) {
        values.push(Number((index * step).toFixed(digits)));
    }
    return values;
}

/** Round values in [low, high] for a logarithmic axis: linear ones if the range is short. */
export function logTicks([low, high], count) {
    if (high / low < 8) return ticks([low, high], count);
    const values = [];
    for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
        for (const factor of [1, 2, 5]) values.push(Number((factor * power).toPrecision(1)));
    }
    return values.filter((value) => value >= low && value <= high);
}

/** A step, short: `2,500` or `1.2M`. */
export function stepLabel(step) {
    if (step >= 1e6) return `${Number((step / 1e6).toPrecision(3))}M`;
    return step.toLocaleString("en");
}
