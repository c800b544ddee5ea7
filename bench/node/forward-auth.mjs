// A service for Caddy's forward_auth, as an app's team would write one: it
// reads the session cookie with the app's own library, looks its user up, and
// answers 200 or 401. LIBRARY is next-auth (v4) or @auth/core (v5), LISTEN its
// address.
import { createServer } from "node:http";
import { parse } from "cookie";
import pg from "pg";
import { live } from "./user.mjs";

const secret = process.env.NEXTAUTH_SECRET;
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
const { getToken } = await import(`${process.env.LIBRARY}/jwt`);

const read = {
	"next-auth": ({ headers }) => getToken({ req: { headers, cookies: parse(headers.cookie ?? "") }, secret }),
	"@auth/core": ({ headers }) => getToken({ req: { headers }, secret }),
}[process.env.LIBRARY];

const [host, port] = process.env.LISTEN.split(":");
createServer(async (request, response) => {
	try {
		const token = await read(request);
		response.statusCode = token && (await live(pool, token)) ? 200 : 401;
	} catch (error) {
		console.error(error);
		response.statusCode = 500;
	}
	response.end();
}).listen(Number(port), host);
