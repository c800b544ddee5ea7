// Answers lines of JSON. {"write": user} is answered with the Set-Cookie fields of a
// sign-in by library; the name/value pairs of a request's header with the users whom
// the libraries read, by library. Headers are in Latin-1 and base64.
import { createInterface } from 'node:readline';
import { libraries } from './libraries.mjs';

console.error = console.warn = console.log = () => {};

for await (const line of createInterface({ input: process.stdin })) {
	const { write, ...encoded } = JSON.parse(line);
	const headers = Object.fromEntries(Object.entries(encoded).filter(([, text]) => text).map(([name, text]) => [name, Buffer.from(text, 'base64').toString('latin1')]));
	const answer = {};
	for (const [name, library] of Object.entries(libraries)) {
		if (!write && !library.of.test(Object.entries(headers).flat().join(' '))) continue; // it takes long
		try {
			const read = await (write ? library.write(write) : library.read(headers));
			if (read !== undefined && read !== null && read !== '') answer[name] = write ? read : String(read);
		} catch {
			// it reads nobody
		}
	}
	process.stdout.write(`${JSON.stringify(answer)}\n`);
}
