// A service for Caddy's forward_auth, as an app's team would write one: it
// reads the session cookie with the app's own library, looks its user up, and
// answers 200 or 401. LIBRARY is next-auth (v4) or @auth/core (v5), LISTEN its
// address.
import { createServer } from "node:http";
import { parse } from "cookie";
import pg from "pg";

const secret = process.env.NEXTAUTH_SECRET;
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
const { getToken } = await import(`${process.env.LIBRARY}/jwt`);

const read = {
	"next-auth": ({ headers }) => getToken({ req: { headers, cookies: parse(headers.cookie ?? "") }, secret }),
	"@auth/core": ({ headers }) => getToken({ req: { headers }, secret }),
}[process.env.LIBRARY];

async function live(request) {
	const token = await read(request);
	if (!token) return false;
	const { rowCount } = await pool.query({ name: "user", text: 'select 1 from "User" where id = $1', values: [token.sub] });
	return rowCount > 0;
}

const [host, port] = process.env.LISTEN.split(":");
createServer(async (request, response) => {
	try {
		response.statusCode = (await live(request)) ? 200 : 401;
	} catch (error) {
		console.error(error);
		response.statusCode = 500;
	}
	response.end();
}).listen(Number(port), host);
