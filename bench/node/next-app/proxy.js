// The check as it is written in an app's own middleware, which Next.js 16
// calls proxy and runs in Node.
import { getToken } from "next-auth/jwt";
import { NextResponse } from "next/server";
import pg from "pg";

export const config = { matcher: "/admin" };

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 });

export async function proxy(request) {
	const token = await getToken({ req: request });
	if (token) {
		const { rowCount } = await pool.query({ name: "user", text: 'select 1 from "User" where id = $1', values: [token.sub] });
		if (rowCount > 0) return NextResponse.next();
	}
	return new NextResponse(null, { status: 401 });
}
