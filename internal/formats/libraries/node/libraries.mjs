// Reads and writes sessions with the real libraries. Each library has the functions
// read(headers), which resolves to the user whom an app reads from the headers of a
// request, and write(user), which resolves to the Set-Cookie fields of a sign-in; and
// of, which matches headers in which there may be a session.
import { createHmac } from 'node:crypto';
import { RequestCookies, ResponseCookies } from '@edge-runtime/cookies';
import { createServerClient, parseCookieHeader, serializeCookieHeader } from '@supabase/ssr';
import * as h3v1 from 'h3-1';
import * as h3v2 from 'h3-2';
import * as iron8 from 'iron-session8';
import * as iron9 from 'iron-session9';
import * as remix from '@remix-run/node';
import * as router from 'react-router';

// The package does not export its store, which its client hides behind Next.js.
const { StatelessSessionStore } = await import('./node_modules/@auth0/nextjs-auth0/dist/server/session/stateless-session-store.js');

export const password = 'a password of sessions, which has 32 characters or more';
const url = 'http://localhost/';

const iron = (library, options = {}) => {
	const config = { cookieName: 'session', password, cookieOptions: { secure: false }, ...options };
	return {
		of: /session/,
		read: async (headers) => (await library.getIronSession(new Request(url, { headers }), new Response(), config)).user?.id,
		write: async (user) => {
			const response = new Response();
			const session = await library.getIronSession(new Request(url), response, config);
			session.user = { id: user };
			if (config.chunk) session.rest = 'x'.repeat(5000);
			await session.save();
			return response.headers.getSetCookie();
		},
	};
};

// The path of the request names the user who signs in, if any.
const h3 = (handle, name, config = {}) => ({
	of: new RegExp(name, 'i'),
	read: async (headers) => (await (await handle(new Request(url, { headers }), { password, name, ...config })).json()).user?.id,
	write: async (user) => (await handle(new Request(url + user), { password, name, ...config })).headers.getSetCookie(),
});
const signIn = async (session, path, big) => {
	if (path.length > 1) await session.update({ user: { id: path.slice(1) }, ...(big && { rest: 'x'.repeat(5000) }) });
	return session.data;
};
const handle1 = (request, config) => {
	const app = h3v1.createApp();
	app.use('/', h3v1.eventHandler(async (event) => signIn(await h3v1.useSession(event, config), new URL(request.url).pathname)));
	return h3v1.toWebHandler(app)(request);
};
const handle2 = (request, { big, ...config }) => {
	const app = new h3v2.H3();
	app.all('/**', async (event) => signIn(await h3v2.useSession(event, config), event.url.pathname, big));
	return app.fetch(request);
};

const storage = (library) => {
	const { getSession, commitSession } = library.createCookieSessionStorage({ cookie: { secrets: [password], name: '__session', path: '/' } });
	return {
		of: /__session/,
		read: async (headers) => (await getSession(headers.cookie)).get('userId'),
		write: async (user) => {
			const session = await getSession();
			session.set('userId', user);
			return [await commitSession(session)];
		},
	};
};

const store = new StatelessSessionStore({ secret: password, rolling: true, absoluteDuration: 86400, inactivityDuration: 86400 });
const now = () => Math.floor(Date.now() / 1000);

const sign = (claims) => {
	const text = ['{"alg":"HS256","typ":"JWT"}', JSON.stringify(claims)].map((part) => Buffer.from(part).toString('base64url')).join('.');
	return `${text}.${createHmac('sha256', password).update(text).digest('base64url')}`;
};
const supabase = (headers, set = []) => createServerClient('http://localhost:1', 'key', {
	cookies: { getAll: () => parseCookieHeader(headers.cookie ?? ''), setAll: (all) => set.push(...all) },
	auth: { autoRefreshToken: false },
	global: {
		fetch: async (address, { body } = {}) => {
			if (!String(address).includes('grant_type=password')) return Response.json({ code: 'refresh_token_not_found' }, { status: 400 });
			const user = JSON.parse(body).email.split('@')[0];
			return Response.json({
				access_token: sign({ sub: user, aud: 'authenticated', iat: now(), exp: now() + 3600 }), token_type: 'bearer', expires_in: 3600, expires_at: now() + 3600,
				refresh_token: 'refresh', user: { id: user, user_metadata: { rest: user.endsWith('big') ? 'x'.repeat(5000) : '' } },
			});
		},
	},
});

export const libraries = {
	'iron-session 8': iron(iron8),
	'iron-session 9': iron(iron9),
	'iron-session 9, chunks': iron(iron9, { chunk: true }),
	'h3 1': h3(handle1, 'nuxt-session'),
	'h3 2': h3(handle2, 'h3'),
	'h3 2, chunks': h3(handle2, 'h3', { big: true }),
	Remix: storage(remix),
	'React Router': storage(router),
	Auth0: {
		of: /__session|appSession/,
		read: async (headers) => (await store.get(new RequestCookies(new Headers(headers))))?.user?.sub,
		write: async (user) => {
			const headers = new Headers();
			const rest = user.endsWith('big') ? 'x'.repeat(5000) : '';
			await store.set(new RequestCookies(new Headers()), new ResponseCookies(headers), { user: { sub: user, rest }, tokenSet: {}, internal: { sid: 's', createdAt: now() } });
			return headers.getSetCookie().filter((line) => !/Max-Age=0/i.test(line));
		},
	},
	Supabase: {
		of: /sb-/,
		read: async (headers) => {
			const { data } = await supabase(headers).auth.getSession();
			const [header, payload, signature] = (data.session?.access_token ?? '').split('.');
			if (!signature || createHmac('sha256', password).update(`${header}.${payload}`).digest('base64url') !== signature) return undefined;
			return JSON.parse(Buffer.from(payload, 'base64url')).sub;
		},
		write: async (user) => {
			const set = [];
			await supabase({}, set).auth.signInWithPassword({ email: `${user}@example.com`, password });
			for (let i = 0; i < 100 && set.length === 0; i++) await new Promise((done) => setTimeout(done, 10));
			return set.map(({ name, value, options }) => serializeCookieHeader(name, value, options));
		},
	},
};
