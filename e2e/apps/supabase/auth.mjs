// A stand-in for Supabase's auth server, which is no Node package. It signs access
// tokens with ES256, and answers as the server's source says.

import { randomUUID } from "node:crypto";
import express from "express";
import { exportJWK, generateKeyPair, SignJWT, jwtVerify } from "jose";
import pg from "pg";

const lifetime = 3600;
const issuer = `${process.env.SUPABASE_URL}/auth/v1`;
const { privateKey, publicKey } = await generateKeyPair("ES256");
const jwk = { ...(await exportJWK(publicKey)), kid: "key", alg: "ES256", use: "sig" };
const pool = new pg.Pool({ connectionString: process.env.APP_DATABASE_URL, max: 2 });
const refreshTokens = new Map(); // to ids of sessions

const server = express();
server.use((request, response, next) => {
	response.set({ "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*", "Access-Control-Allow-Methods": "*" });
	if (request.method === "OPTIONS") return response.sendStatus(204);
	next();
}, express.json());

server.get("/auth/v1/.well-known/jwks.json", (request, response) => {
	response.json({ keys: [jwk] });
});

server.post("/auth/v1/token", async (request, response) => {
	let session;
	if (request.query.grant_type === "password") {
		const { rows: [user] } = await pool.query("SELECT id FROM auth.users WHERE email = $1", [request.body.email]);
		if (!user) return response.status(400).json({ code: "invalid_credentials", message: "Invalid login credentials" });
		({ rows: [session] } = await pool.query("INSERT INTO auth.sessions (user_id) VALUES ($1) RETURNING id, user_id", [user.id]));
	} else {
		({ rows: [session] } = await pool.query("SELECT id, user_id FROM auth.sessions WHERE id = $1", [refreshTokens.get(request.body.refresh_token)]));
		if (!session) return response.status(400).json({ code: "refresh_token_not_found", message: "Invalid Refresh Token" });
	}
	response.json(await tokens(session));
});

server.post("/auth/v1/logout", async (request, response) => {
	const { payload } = await jwtVerify(request.headers.authorization.replace("Bearer ", ""), publicKey);
	const { session_id: session, sub } = payload;
	const sessions = { local: "id = $1", others: "id <> $1 AND user_id = $2", global: "user_id = $2" };
	await pool.query(`DELETE FROM auth.sessions WHERE ($1::uuid IS NOT NULL AND $2::uuid IS NOT NULL) AND ${sessions[request.query.scope ?? "global"]}`, [session, sub]);
	response.sendStatus(204);
});

async function tokens({ id, user_id }) {
	const { rows: [{ email }] } = await pool.query("SELECT email FROM auth.users WHERE id = $1", [user_id]);
	const now = Math.floor(Date.now() / 1000);
	const refresh_token = randomUUID();
	refreshTokens.set(refresh_token, id);
	const claims = { iss: issuer, sub: user_id, aud: "authenticated", role: "authenticated", email, session_id: id, iat: now, exp: now + lifetime };
	return {
		access_token: await new SignJWT(claims).setProtectedHeader({ alg: "ES256", typ: "JWT", kid: jwk.kid }).sign(privateKey),
		token_type: "bearer", expires_in: lifetime, expires_at: now + lifetime,
		refresh_token, user: { id: user_id, aud: "authenticated", role: "authenticated", email },
	};
}

server.listen(new URL(issuer).port, "127.0.0.1");
