// The real libraries, and how the tests call them.
import { createRequire } from 'node:module';
import { createHash, hkdfSync } from 'node:crypto';
import path from 'node:path';

const require = createRequire(import.meta.url);
export const v4 = require('next-auth/jwt');
export const v5 = await import('@auth/core/jwt');
export const old = await import('old-auth-core/jwt');
export const jwt = require('jsonwebtoken');
export const jose = await import('jose');

// The packages do not export their session stores.
const inside = (name, file) => path.join(import.meta.dirname, 'node_modules', name, file);
const { SessionStore: Store4 } = require(inside('next-auth', 'core/lib/cookie.js'));
const { SessionStore: Store5 } = await import(inside('@auth/core', 'lib/utils/cookie.js'));
const quiet = { debug() {}, warn() {}, error() {} };

// store returns the SessionStore of a version, for a cookie name and a jar of pairs.
export function store(version, name, jar) {
	const cookies = Object.fromEntries(jar);
	return version === 'v4'
		? new Store4({ name, options: {} }, { cookies }, quiet)
		: new Store5({ name, options: {} }, cookies, quiet);
}

// read returns the payload that the library of a vector reads from its token, or null.
export async function read(v) {
	try {
		if (v.id.startsWith('jws/')) {
			const options = v.id.includes('allow_HS256_only') ? { algorithms: ['HS256'] } : {};
			return jwt.verify(v.token, v.secret, options);
		}
		const token = v.cookies ? v.cookies.map(([, value]) => value).join('') : v.token;
		return v.id.startsWith('v4/') || v.id === 'cross/v5_token_read_as_v4'
			? await v4.decode({ token, secret: v.secret, salt: v.salt })
			: await v5.decode({ token, secret: v.secret, salt: v.salt });
	} catch {
		return null;
	}
}

// derive returns a key, derived as the libraries do, and its thumbprint.
export function derive(version, secret, salt, length) {
	const name = version === 'v4' ? 'NextAuth.js' : 'Auth.js';
	const info = `${name} Generated Encryption Key${salt ? ` (${salt})` : ''}`;
	const key = Buffer.from(hkdfSync('sha256', secret, salt, info, length));
	const kid = createHash(`sha${length << 3}`).update(JSON.stringify({ k: key.toString('base64url'), kty: 'oct' })).digest('base64url');
	return { info, key, kid };
}
