// Elements of the page, and formats. Text from Caddy is never set as HTML.

export function element(id) {
	return document.getElementById(id);
}

/** Sets the text of an element, unless it is the same: screen readers announce each change. */
export function say(id, text) {
	const target = typeof id === "string" ? element(id) : id;
	if (target.textContent !== text) target.textContent = text;
}

/** Creates an element with properties, and with elements and texts as children. */
export function make(tag, properties = {}, ...children) {
	const made = document.createElement(tag);
	for (const [name, value] of Object.entries(properties)) {
		if (name === "data") Object.assign(made.dataset, value);
		else made[name] = value;
	}
	made.append(...children);
	return made;
}

const integer = new Intl.NumberFormat("en");
const twoDigits = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function number(n) {
	return integer.format(Math.round(n));
}

/** Formats a rate, with two digits when it is small. */
export function rate(n) {
	return n >= 10 ? number(n) : twoDigits.format(n);
}

export function percent(part, all) {
	if (!all) return "–";
	const share = (100 * part) / all;
	return share > 0 && share < 0.1 ? "< 0.1 %" : `${share >= 99.95 || share === 0 ? share.toFixed(0) : share.toFixed(1)} %`;
}

export function duration(seconds) {
	if (!seconds) return "–";
	return seconds < 1 ? `${rate(seconds * 1000)} ms` : `${rate(seconds)} s`;
}

/** Creates an element with a time of day, and the date as its title. */
export function time(text) {
	const at = new Date(text);
	return make("time", { dateTime: text, title: dateTime.format(at), textContent: clock.format(at) });
}

export function moment(text) {
	return dateTime.format(new Date(text));
}

/** Replaces the underscores in a name by spaces. */
export function words(name) {
	return name.replaceAll("_", " ");
}
