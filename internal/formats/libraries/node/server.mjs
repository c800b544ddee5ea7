// Serves an app for each of the real libraries, as people write them: it greets whom
// its session names, and asks no database. It prints the name and the address of each.
// They end with the standard input.
import { createServer } from 'node:http';
import { libraries } from './libraries.mjs';

console.error = console.warn = () => {};

for (const [name, library] of Object.entries(libraries)) {
	const server = createServer(async (request, response) => {
		const { headers, method, url } = request;
		const [, path, user] = url.split('/');
		try {
			if (path === 'sign-in' && method === 'POST') response.setHeader('Set-Cookie', await library.write(user));
			const reader = Object.fromEntries(Object.entries(headers).filter(([, value]) => typeof value === 'string'));
			response.end(`hello ${(await library.read(reader)) ?? 'stranger'}`);
		} catch (error) {
			response.writeHead(500).end(String(error));
		}
	});
	server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ name, address: `127.0.0.1:${server.address().port}` })));
}
process.stdin.resume().on('end', () => process.exit());
