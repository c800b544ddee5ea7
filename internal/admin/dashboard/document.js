// The page's elements. Whatever Caddy tells is set as text, never as HTML.

export function element(id) {
	return document.getElementById(id);
}

/** Changes the text of an element, which is announced, only when it is another. */
export function say(id, text) {
	const target = typeof id === "string" ? element(id) : id;
	if (target.textContent !== text) target.textContent = text;
}

/** A new element with properties, and children that are elements or texts. */
export function make(tag, properties = {}, ...children) {
	const made = document.createElement(tag);
	for (const [name, value] of Object.entries(properties)) {
		if (name === "data") Object.assign(made.dataset, value);
		else made[name] = value;
	}
	made.append(...children);
	return made;
}

const whole = new Intl.NumberFormat("en");
const rough = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function number(n) {
	return whole.format(Math.round(n));
}

/** A rate, which can be small. */
export function rate(n) {
	return n >= 10 ? number(n) : rough.format(n);
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

/** A time of the day, with the date as its title. */
export function time(text) {
	const at = new Date(text);
	return make("time", { dateTime: text, title: exact.format(at), textContent: clock.format(at) });
}

export function moment(text) {
	return exact.format(new Date(text));
}

/** What a program says in one_word. */
export function words(name) {
	return name.replaceAll("_", " ");
}
