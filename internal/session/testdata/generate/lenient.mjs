// How the libraries and JavaScript read odd tokens, jars and escapes.
import { store, v4, v5 } from './libraries.mjs';

// random returns the same numbers at each run (mulberry32).
let seed = 1;
function random(n) {
	seed = (seed + 0x6d2b79f5) | 0;
	let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
	t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
	return ((t ^ (t >>> 14)) >>> 0) % n;
}
const pick = (list) => list[random(list.length)];

export async function lenient(secret, names) {
	return { tokens: await tokens(secret, names), jars: jars(names), escapes: escapes() };
}

// tokens have characters where none belong.
async function tokens(secret, names) {
	const out = [];
	for (const [cookie_name, decode, token] of [
		[names.v4, (token) => v4.decode({ token, secret }), await v4.encode({ token: { sub: '1' }, secret, maxAge: 3153600000 })],
		[names.plain, (token) => v5.decode({ token, secret, salt: names.plain }), await v5.encode({ token: { sub: '1' }, secret, salt: names.plain, maxAge: 3153600000 })],
	]) {
		const parts = token.split('.');
		const put = (i, part) => parts.map((p, j) => (j === i ? part : p)).join('.');
		const variants = new Set();
		for (const i of [0, 1, 2, 3, 4]) {
			const middle = parts[i].length >> 1;
			for (const c of ['!', ' ', '=', '+', '/', 'é', '-', 'A', '"', ',', '%', '%41', '=AAAA', '==', '~!~']) {
				variants.add(put(i, parts[i] + c)).add(put(i, c + parts[i])).add(put(i, parts[i].slice(0, middle) + c + parts[i].slice(middle)));
			}
			variants.add(put(i, parts[i].replace(/-/g, '+').replace(/_/g, '/'))).add(put(i, parts[i].slice(0, -1)));
		}
		variants.delete(token);
		for (const text of variants) {
			const accepted = await decode(text).then((payload) => payload?.sub === '1', () => false);
			out.push({ cookie_name, secret, token: text, accepted });
		}
	}
	return out;
}

// jars of cookies that all begin with the name.
function jars({ v4: name }) {
	const out = [];
	for (let i = 0; i < 400; i++) {
		const jar = new Map();
		for (let n = 1 + random(i < 300 ? 6 : 40); n > 0; n--) {
			const suffix = pick(['', '.0', '.1', '.2', '.10', '.11', '-a', '-b', '.x', '.-1', '.0x10', '.7up', '. 3', '.', '.1e3', '.+2', `.${random(60)}`, `-${random(60)}`]);
			jar.set(name + suffix, random(6) ? `<${jar.size}>` : '');
		}
		const pairs = [...jar];
		out.push({ jar: pairs, v4: store('v4', name, pairs).value, v5: store('v5', name, pairs).value });
	}
	return out;
}

// escapes are texts of Latin-1 characters, as Node.js decodes headers.
function escapes() {
	const out = [];
	const pieces = ['%41', '%2D', '%', '%4', '%zz', '%C3%A9', '%C3', '%C3%28', '%E2%9C%93', '%E2%9C', '%F0%9F%9A%80', '%ED%A0%80', '%C0%AF', '%F5%80%80%80', '%00', 'a', '-', '\u00e9', '\u00ff', '+', '%c3%a9', '%80'];
	for (let i = 0; i < 300; i++) {
		const text = Array.from({ length: 1 + random(5) }, () => pick(pieces)).join('');
		let decoded = null;
		try {
			decoded = decodeURIComponent(text);
		} catch { /* cookie parsers keep the text then */ }
		out.push({ text: Buffer.from(text, 'latin1').toString('base64'), decoded });
	}
	return out;
}
