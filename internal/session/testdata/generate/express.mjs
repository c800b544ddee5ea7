// Reports which tokens Express, and apps with other parsers of npm, read from a
// cookie. It reads a Cookie field a line from standard input, in base64, and answers
// each with a line of JSON: the subject of what is read, by the way to read it.
// NAME is the name of the cookie, SECRET signs cookies, and TOKENS are the subjects
// by their tokens.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { RequestCookies } from '@edge-runtime/cookies';

const require = createRequire(import.meta.url);
const cookieParser = require('cookie-parser');
const parsers = { 'cookie 0.4.1': require('cookie-0.4.1').parse, 'cookie 0.7': require('cookie').parse };
const { NAME: name, SECRET: secret } = process.env;

// jose ignores what is not base64 in a signature.
const key = (token) => {
	const end = token.lastIndexOf('.') + 1;
	return token.slice(0, end) + token.slice(end).replace(/\+/g, '-').replace(/\//g, '_').replace(/[^\w-]/g, '');
};
const subjects = new Map(Object.entries(JSON.parse(process.env.TOKENS)).map(([token, subject]) => [key(token), subject]));

// texts returns the texts in a value, which can be a JSON cookie.
const texts = (value) => typeof value === 'string' ? [value] : value && typeof value === 'object' ? Object.values(value).flatMap(texts) : [];

function judge(cookie) {
	const read = {};
	const add = (how, reading) => {
		try {
			texts(reading()).forEach((text, i) => {
				const subject = subjects.get(key(text));
				if (subject) read[i ? `${how} ${i}` : how] = subject;
			});
		} catch { /* the parser throws */ }
	};
	for (const [parser, parse] of Object.entries(parsers)) add(parser, () => parse(cookie)[name]);
	add('RequestCookies', () => new RequestCookies(new Headers({ cookie })).get(name)?.value);
	for (const given of [undefined, secret]) {
		const request = { headers: { cookie } };
		try {
			cookieParser(given)(request, {}, () => {});
		} catch {
			continue;
		}
		add(`Express${given ? ' with a secret' : ''}`, () => request.cookies[name]);
		add('Express, signed', () => request.signedCookies[name]);
	}
	return read;
}

for await (const line of createInterface({ input: process.stdin })) {
	console.log(JSON.stringify(judge(Buffer.from(line, 'base64').toString('latin1'))));
}
