// Reports which sessions apps with the real libraries would read. It reads a line
// of JSON for each request from standard input, {"cookie", "authorization"}, in
// Latin-1 and base64. It answers each with a line of JSON: the subject that is
// read, by the way to read it. Ways that read nothing are left out. SECRET is the
// app's secret.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { RequestCookies } from '@edge-runtime/cookies';
import { store, v4, v5 } from './libraries.mjs';

const require = createRequire(import.meta.url);
const parsers = { 'cookie 0.4.1': require('cookie-0.4.1').parse, 'cookie 0.7': require('cookie').parse };
const { SECRET: secret } = process.env;
const names = {
	v4: ['next-auth.session-token', '__Secure-next-auth.session-token'],
	v5: ['authjs.session-token', '__Secure-authjs.session-token'],
};
const quiet = { debug() {}, warn() {}, error() {} };

// decode decodes each token once.
const known = new Map();
async function decode(version, name, token) {
	if (!token) return null;
	const key = `${version} ${name} ${token}`;
	if (known.size > 50_000) known.clear();
	if (!known.has(key)) {
		const { decode } = version === 'v4' ? v4 : v5;
		known.set(key, await decode({ token, secret, salt: version === 'v4' ? '' : name }).then((payload) => payload?.sub ?? null, () => null));
	}
	return known.get(key);
}

// attempt returns null if the library throws.
async function attempt(read) {
	try {
		return await read();
	} catch {
		return null;
	}
}

async function judge({ cookie, authorization }) {
	const read = {};
	const add = async (how, reading) => {
		const subject = await attempt(reading);
		if (subject !== null && subject !== undefined) read[how] = subject;
	};
	const headers = { cookie, ...(authorization && { authorization }) };
	for (const version of ['v4', 'v5']) {
		for (const name of names[version]) {
			const jars = {};
			for (const [parser, parse] of Object.entries(parsers)) jars[parser] = await attempt(() => parse(cookie));
			jars.RequestCookies = await attempt(() => Object.fromEntries(new RequestCookies(new Headers({ cookie })).getAll().map(({ name, value }) => [name, value])));
			for (const [parser, jar] of Object.entries(jars)) {
				if (!jar) continue;
				await add(`${version} ${name} ${parser} joined`, () => decode(version, name, store(version, name, Object.entries(jar)).value));
				await add(`${version} ${name} ${parser} exact`, () => decode(version, name, jar[name]));
			}
			const options = { secret, secureCookie: name.startsWith('__Secure-'), logger: quiet, raw: true };
			await add(`${version} ${name} getToken`, async () => version === 'v4'
				? decode('v4', name, await v4.getToken({ ...options, req: { headers, cookies: parsers['cookie 0.7'](cookie) } }))
				: decode('v5', name, await v5.getToken({ ...options, req: { headers: new Headers(headers) } })));
		}
	}
	return read;
}

const latin1 = (text) => Buffer.from(text ?? '', 'base64').toString('latin1');
for await (const line of createInterface({ input: process.stdin })) {
	const { cookie, authorization } = JSON.parse(line);
	console.log(JSON.stringify(await judge({ cookie: latin1(cookie), authorization: latin1(authorization) })));
}
