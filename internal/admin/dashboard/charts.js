// Charts of the last hour, drawn by uPlot.

import { checks } from "./counters.js";
import { duration, element, make, number, rate, time } from "./document.js";

const hour = 3600;
const minimum = 300; // seconds that a chart shows at least
const step = 5; // seconds from one sample to the next

const kinds = [
	{ title: "Checks per second", format: rate, series: [["live", "live"], ["anonymous", "anonymous"], ["invalid", "invalid"]], value: ({ counters, seconds }, name) => (checks(counters)[name] ?? 0) / seconds },
	{ title: "Stale and unknown per minute", format: rate, series: [["stale", "stale"], ["unknown", "unknown"]], value: ({ counters, seconds }, name) => ((checks(counters)[name] ?? 0) * 60) / seconds },
	{ title: "Lookup time", format: duration, series: [["95th percentile", "p95"], ["median", "p50"]], value: (sample, name) => lookups(sample)?.[name] ?? null },
];

function lookups({ counters }) {
	return counters.lookup_duration_seconds;
}

export class Charts {
	#samples = [];
	#charts;

	constructor() {
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
			if (!this.#charts) return;
			this.#make();
			this.draw();
		});
		new ResizeObserver(() => this.#resize()).observe(element("charts"));
	}

	replace(samples) {
		this.#samples = samples;
	}

	/** Adds a sample, unless it is already there. */
	add(sample) {
		if (!sample || sample.time === this.#samples.at(-1)?.time) return;
		this.#samples.push(sample);
		const oldest = Date.parse(sample.time) - hour * 1000;
		while (Date.parse(this.#samples[0].time) < oldest) this.#samples.shift();
	}

	/** The number of checks, by verdict, and how many seconds of samples there are. */
	lastHour() {
		return total(this.#samples);
	}

	/** The lookups of the latest sample with a lookup. */
	latestLookups() {
		return this.#samples.map(lookups).findLast(Boolean);
	}

	draw() {
		if (!this.#charts) this.#make();
		const times = this.#samples.map((sample) => Date.parse(sample.time) / 1000);
		const now = Math.max(Date.now() / 1000 - 2 * step, times.at(-1) ?? 0);
		const from = Math.max(now - hour, Math.min(times[0] ?? now, now - minimum));
		this.#charts.forEach(({ plot, figure, values }, i) => {
			const { title, format, series, value } = kinds[i];
			const columns = series.map(([, name]) => this.#samples.map((sample) => value(sample, name)));
			plot.batch(() => {
				plot.setData([times, ...columns], false);
				plot.setScale("x", { min: from, max: now });
				const top = Math.max(...columns.flat().filter((n) => n !== null), 0);
				plot.setScale("y", { min: 0, max: top > 0 ? top * 1.1 : 1 });
			});
			const summary = series.map(([label], s) => `${label} ${format(columns[s].at(-1) ?? 0)} now, ${format(Math.max(...columns[s], 0))} at most`);
			figure.querySelector("[role=img]").ariaLabel = `${title} in the last hour: ${summary.join("; ")}`;
			if (plot.cursor.idx == null) values(columns.map((column) => column.at(-1)));
		});
		this.#table();
	}

	#make() {
		this.#charts?.forEach(({ plot }) => plot.destroy());
		const style = getComputedStyle(document.body);
		const color = (name) => style.getPropertyValue(`--${name}`).trim();
		const colors = { p95: color("accent"), p50: color("muted") };
		const font = `11px ${style.fontFamily}`;
		const axis = { stroke: color("muted"), font, grid: { stroke: color("line"), width: 1 }, ticks: { show: false } };
		const figures = kinds.map(({ title, format, series, value }) => {
			const texts = series.map(() => make("b"));
			const legend = series.map(([label, name], i) => make("li", {}, make("span", { className: "swatch", data: { verdict: name } }), `${label} `, texts[i]));
			const area = make("div", { className: "chart", role: "img" });
			const figure = make("figure", {}, make("figcaption", {}, make("span", { textContent: title }), make("ul", {}, ...legend)), area);
			const values = (numbers) => numbers.forEach((n, i) => { texts[i].textContent = format(n ?? 0); });
			return { figure, area, values, format, series, value };
		});
		element("charts").replaceChildren(...figures.map(({ figure }) => figure));
		this.#charts = figures.map(({ figure, area, values, format, series, value }) => ({
			figure,
			values,
			plot: new uPlot({
				width: area.clientWidth || 300,
				height: 108,
				padding: [8, 14, 0, 0],
				legend: { show: false },
				cursor: { sync: { key: "hour" }, drag: { x: false, y: false }, y: false, points: { size: 6 } },
				scales: { x: { time: true }, y: { auto: false, range: [0, 1] } },
				axes: [
					{ ...axis, size: 24, values: "{HH}:{mm}", space: 60, incrs: [60, 300, 600, 900, 1800] },
					{ ...axis, size: 52, space: 30, values: (_, ticks) => ticks.map((n) => (n === 0 ? "0" : format(n))) },
				],
				series: [
					{},
					...series.map(([label, name]) => {
						const stroke = colors[name] ?? color(name);
						return { label, stroke, width: 1.5, spanGaps: true, fill: name === "live" || name === "stale" ? `${stroke}22` : undefined, points: { show: false } };
					}),
				],
				hooks: {
					setCursor: [(plot) => {
						const i = plot.cursor.idx ?? this.#samples.length - 1;
						const sample = this.#samples[i];
						if (sample) values(series.map(([, name]) => value(sample, name)));
					}],
				},
			}, [[], ...series.map(() => [])], area),
		}));
	}

	#resize() {
		this.#charts?.forEach(({ plot, figure }) => {
			const width = figure.clientWidth;
			if (width > 0 && width !== plot.width) plot.setSize({ width, height: plot.height });
		});
	}

	// A row for each five minutes, the latest first.
	#table() {
		const table = element("charts-table");
		if (!table.closest("details").open) return;
		const groups = new Map();
		for (const sample of this.#samples) {
			const until = Math.ceil(Date.parse(sample.time) / (minimum * 1000));
			groups.set(until, [...(groups.get(until) ?? []), sample]);
		}
		const rows = [...groups.values()].reverse().map((samples) => {
			const { checks: counts, seconds } = total(samples);
			const all = Object.values(counts).reduce((a, b) => a + b, 0);
			return make("tr", {},
				make("th", { scope: "row" }, time(samples.at(-1).time)),
				...[rate(all / seconds), number(counts.stale ?? 0), number(counts.unknown ?? 0), duration(Math.max(...samples.map((sample) => lookups(sample)?.p95 ?? 0)))]
					.map((textContent) => make("td", { textContent })));
		});
		table.tBodies[0].replaceChildren(...rows);
	}
}

function total(samples) {
	const counts = {};
	let all = 0;
	for (const sample of samples) {
		all += sample.seconds;
		for (const [verdict, n] of Object.entries(checks(sample.counters))) counts[verdict] = (counts[verdict] ?? 0) + n;
	}
	return { checks: counts, seconds: all };
}
