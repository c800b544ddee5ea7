// An OAuth 2 provider with one user, which asks for consent.

import { once } from "node:events";
import http from "node:http";

export async function startProvider(person) {
	const server = http.createServer((request, response) => {
		const url = new URL(request.url, "http://localhost");
		switch (url.pathname) {
			case "/authorize": {
				const back = new URL(url.searchParams.get("redirect_uri"));
				back.searchParams.set("code", "a code");
				for (const state of url.searchParams.getAll("state")) back.searchParams.set("state", state);
				response.setHeader("Content-Type", "text/html");
				response.end(`<h1>Test</h1><a href="${back.href.replaceAll("&", "&amp;")}">Allow</a>`);
				break;
			}
			case "/token":
				json(response, { access_token: "a token", token_type: "bearer" });
				break;
			case "/userinfo":
				json(response, person);
				break;
			default:
				response.writeHead(404).end();
		}
	});
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	return {
		issuer: `http://127.0.0.1:${server.address().port}`,
		stop() {
			server.close();
			server.closeAllConnections();
		},
	};
}

function json(response, body) {
	response.setHeader("Content-Type", "application/json");
	response.end(JSON.stringify(body));
}
