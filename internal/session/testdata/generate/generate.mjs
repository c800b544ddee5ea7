// Generates or checks the pinned tokens: see README.md.
import { readFileSync } from 'node:fs';
import { derive, jose, jwt, old, read, store, v4, v5 } from './libraries.mjs';
import { lenient } from './lenient.mjs';

const century = 100 * 365 * 24 * 3600;
const secret = 'kx3m0Vt7b2y9QmXn5o1Zr8uLwE4sJfGcHdPaTiNvYqA=';
const other = 'another secret altogether';
const names = { v4: 'next-auth.session-token', plain: 'authjs.session-token', secure: '__Secure-authjs.session-token' };
const ada = { name: 'Ada Lovelace', email: 'ada@example.com', picture: 'https://example.com/a.png', sub: 'clx0a1b2c0000qwer1234tyui' };

const payloads = {
	basic: ada,
	minimal_sub_only: { sub: '1' },
	no_sub: { name: 'No Sub', email: 'nosub@example.com' },
	null_sub: { ...ada, sub: null },
	empty: {},
	numeric_string_sub_and_number_id: { ...ada, sub: '42', id: 42 },
	number_sub: { ...ada, sub: 42 },
	big_integer_id: { ...ada, sub: '12345678901', id: 12345678901, userId: 9007199254740991 },
	float_looking_id: { ...ada, sub: '1.0', id: 1.5 },
	uuid_sub: { ...ada, sub: '7d444840-9dc0-11d1-b245-5ffdce74fad2' },
	nested_user: { name: 'N', user: { id: 7, role: 'admin', profile: { uid: 'u_7' } } },
	unicode: { ...ada, name: 'Zoë 渡辺 🚀' },
	caller_exp_ignored: { ...ada, exp: 1, iat: 1, jti: 'x' },
};
const secrets = { base64_32: secret, hex_64: 'ab'.repeat(32), one_char: 'x', unicode: 'pässwörd-渡辺', long_200: 'l'.repeat(200), with_spaces_quotes: ` a "b" 'c' ` };

const vectors = [];
const signed = [];

// add adds a vector if its library reads it as expected.
async function add(list, v, expect) {
	const payload = await read(v);
	if ((payload !== null) !== (expect === 'ok')) throw new Error(`${v.id}: the library says ${payload === null ? 'error' : 'ok'}`);
	const { accessToken: _, ...payload_out } = payload ?? {};
	list.push({ ...v, expect, ...(payload && { payload_out }) });
}

// raw encrypts any payload with any header, which encode() does not.
const raw = (key, header, text) => new jose.CompactEncrypt(new TextEncoder().encode(text)).setProtectedHeader(header).encrypt(key);
const now = () => Math.floor(Date.now() / 1000);

for (const [version, salt, prefix] of [['v4', '', 'v4'], ['v5', names.plain, 'v5/plain'], ['v5', names.secure, 'v5/secure']]) {
	const { encode } = version === 'v4' ? v4 : v5;
	const cookie_name = version === 'v4' ? names.v4 : salt;
	for (const [id, token] of Object.entries(payloads)) {
		await add(vectors, { id: `${prefix}/${id}`, secret, salt, cookie_name, token: await encode({ token, secret, salt, maxAge: century }) }, 'ok');
	}
	for (const size of [2500, 3000, 9000, 35000]) {
		const accessToken = Array.from({ length: size }, () => Math.floor(Math.random() * 36).toString(36)).join('');
		const token = await encode({ token: { ...ada, accessToken }, secret, salt, maxAge: century });
		const cookies = store(version, cookie_name, []).chunk(token, {}).map(({ name, value }) => [name, value]);
		await add(vectors, { id: `${prefix}/chunked_${size}`, secret, salt, cookie_name, ...(cookies.length > 1 ? { cookies } : { token }) }, 'ok');
	}
	for (const [id, s] of Object.entries(secrets)) {
		await add(vectors, { id: `${prefix}/secret_${id}`, secret: s, salt, cookie_name, token: await encode({ token: ada, secret: s, salt, maxAge: century }) }, 'ok');
	}
	const token = await encode({ token: ada, secret, salt, maxAge: century });
	const parts = token.split('.');
	const flip = (text) => (text[0] === 'A' ? 'B' : 'A') + text.slice(1);
	const altered = {
		iv: [0, 1, 2], ciphertext: [3], tag: [4],
	};
	for (const [what, indices] of Object.entries(altered)) {
		const changed = parts.map((part, i) => (i === indices.at(-1) ? flip(part) : part)).join('.');
		await add(vectors, { id: `${prefix}/tampered_${what}`, secret, salt, cookie_name, token: changed }, 'error');
	}
	const header = JSON.parse(Buffer.from(parts[0], 'base64url'));
	const withHeader = (h) => [Buffer.from(JSON.stringify(h)).toString('base64url'), ...parts.slice(1)].join('.');
	await add(vectors, { id: `${prefix}/tampered_header`, secret, salt, cookie_name, token: withHeader({ ...header, x: 1 }) }, 'error');
	for (const [id, text] of Object.entries({ four_parts: parts.slice(0, 4).join('.'), empty_tag: parts.slice(0, 4).join('.') + '.', encrypted_key_not_empty: [parts[0], 'AAAA', ...parts.slice(2)].join('.') })) {
		await add(vectors, { id: `${prefix}/tampered_${id}`, secret, salt, cookie_name, token: text }, 'error');
	}
	await add(vectors, { id: `${prefix}/expired`, secret, salt, cookie_name, token: await encode({ token: ada, secret, salt, maxAge: -3600 }) }, 'error');
	await add(vectors, { id: `${prefix}/wrong_secret`, secret, salt, cookie_name, token: await encode({ token: ada, secret: other, salt, maxAge: century }) }, 'error');

	const { key, kid } = derive(version, secret, salt, version === 'v4' ? 32 : 64);
	const own = version === 'v4' ? { alg: 'dir', enc: 'A256GCM' } : { alg: 'dir', enc: 'A256CBC-HS512', kid };
	const exp = now() + century;
	for (const [id, payload, expect] of [
		['no_exp', { sub: '1', iat: now() }, 'ok'], ['no_exp_no_iat_no_jti', { sub: '1' }, 'ok'], ['exp_as_string', { sub: '1', exp: `${exp}` }, 'error'],
		['exp_float', { sub: '1', exp: exp + 0.5 }, 'ok'], ['exp_zero', { sub: '1', exp: 0 }, 'error'], ['exp_null', { sub: '1', exp: null }, 'error'],
		['nbf_future', { sub: '1', exp, nbf: 4102444800 }, 'error'], ['iat_future', { sub: '1', exp, iat: 4102444800 }, 'ok'],
		['iat_as_string', { sub: '1', exp, iat: '1' }, 'error'], ['payload_is_array', [1], 'error'],
	]) {
		await add(vectors, { id: `${prefix}/${id}`, secret, salt, cookie_name, token: await raw(key, own, JSON.stringify(payload)) }, expect);
	}
	await add(vectors, { id: `${prefix}/payload_not_json`, secret, salt, cookie_name, token: await raw(key, own, 'x') }, 'error');
	for (const [id, text] of Object.entries({ garbage: 'not-a-jwe', uuid_database_session: '5c5b1f0e-8d3c-4d6e-9a43-3b1f5f4d2c11', dots: '....', three_parts: 'a.b.c' })) {
		await add(vectors, { id: `${prefix}/not_jwe_${id}`, secret, salt, cookie_name, token: text }, 'error');
	}
}

// Tokens of one version only.
const long = JSON.stringify({ ...ada, exp: now() + century });
const state = await v4.encode({ token: { sub: '1' }, secret, salt: 'next-auth.state', maxAge: century });
await add(vectors, { id: 'v4/salted_token_is_not_a_session', secret, salt: '', cookie_name: names.v4, token: state }, 'error');
await add(vectors, { id: 'v4/salted_decodes_with_its_salt', secret, salt: 'next-auth.state', cookie_name: 'next-auth.state', token: state }, 'ok');
await add(vectors, { id: 'v4/enc_A128CBC-HS256', secret, salt: '', cookie_name: names.v4, token: await raw(derive('v4', secret, '', 32).key, { alg: 'dir', enc: 'A128CBC-HS256' }, long) }, 'ok');
for (const name of ['my-app.session', '__Host-authjs.session-token', '__Secure-next-auth.session-token']) {
	await add(vectors, { id: `v5/name/${name}`, secret, salt: name, cookie_name: name, token: await v5.encode({ token: ada, secret, salt: name, maxAge: century }) }, 'ok');
}
const plain = await v5.encode({ token: ada, secret, salt: names.plain, maxAge: century });
await add(vectors, { id: 'v5/salt_mismatch_plain_vs_secure', secret, salt: names.secure, cookie_name: names.secure, token: plain }, 'error');
await add(vectors, { id: 'v5/rotation_old_secret_second', secret: [other, secret], salt: names.plain, cookie_name: names.plain, token: plain }, 'ok');
await add(vectors, { id: 'v5/rotation_new_secret_first', secret: [other, secret], salt: names.plain, cookie_name: names.plain, token: await v5.encode({ token: ada, secret: other, salt: names.plain, maxAge: century }) }, 'ok');
await add(vectors, { id: 'v5/rotation_retired', secret: [other], salt: names.plain, cookie_name: names.plain, token: plain }, 'error');
for (const salt of [names.plain, names.secure]) {
	await add(vectors, { id: `v5/a256gcm_from_core_0.18.6/${salt}`, secret, salt, cookie_name: salt, token: await old.encode({ token: ada, secret, salt, maxAge: century }) }, 'ok');
}
const cbc = derive('v5', secret, names.plain, 64);
const gcm = derive('v5', secret, names.plain, 32);
for (const [id, key, header, s, expect] of [
	['cbc_no_kid', cbc.key, { alg: 'dir', enc: 'A256CBC-HS512' }, secret, 'ok'],
	['cbc_no_kid_second_secret', cbc.key, { alg: 'dir', enc: 'A256CBC-HS512' }, [other, secret], 'error'],
	['cbc_wrong_kid', cbc.key, { alg: 'dir', enc: 'A256CBC-HS512', kid: 'nope' }, secret, 'error'],
	['a256gcm_with_kid', gcm.key, { alg: 'dir', enc: 'A256GCM', kid: gcm.kid }, [other, secret], 'ok'],
	['a256gcm_no_kid_second_secret', gcm.key, { alg: 'dir', enc: 'A256GCM' }, [other, secret], 'error'],
	['enc_A128CBC-HS256_not_allowed', gcm.key, { alg: 'dir', enc: 'A128CBC-HS256' }, secret, 'error'],
]) {
	await add(vectors, { id: `v5/${id}`, secret: s, salt: names.plain, cookie_name: names.plain, token: await raw(key, header, long) }, expect);
}
await add(vectors, { id: 'cross/v4_token_read_as_v5', secret, salt: names.plain, cookie_name: names.plain, token: await v4.encode({ token: ada, secret, maxAge: century }) }, 'error');
await add(vectors, { id: 'cross/v5_token_read_as_v4', secret, salt: '', cookie_name: names.v4, token: plain }, 'error');

// Signed tokens, as apps that override jwt.encode make them.
const exp = 4102444800;
const hasura = { sub: '7', name: 'H', exp, 'https://hasura.io/jwt/claims': { 'x-hasura-user-id': '7', 'x-hasura-default-role': 'user', 'x-hasura-allowed-roles': ['user'] } };
const good = jwt.sign({ ...ada, exp }, secret);
const [head, , tail] = good.split('.');
for (const [id, token, expect] of [
	['HS256', good, 'ok'], ['HS384', jwt.sign({ ...ada, exp }, secret, { algorithm: 'HS384' }), 'ok'], ['HS512', jwt.sign({ ...ada, exp }, secret, { algorithm: 'HS512' }), 'ok'],
	['HS256_no_exp', jwt.sign(ada, secret), 'ok'], ['HS256_no_iat', jwt.sign({ ...ada, exp }, secret, { noTimestamp: true }), 'ok'],
	['HS256_numeric_sub', jwt.sign(JSON.stringify({ ...ada, exp, sub: 42, id: 42, iat: now() }), secret, { header: { typ: 'JWT' } }), 'ok'],
	['HS256_nested_hasura', jwt.sign(hasura, secret), 'ok'], ['HS256_expired', jwt.sign({ ...ada, exp: 1000 }, secret), 'error'],
	['HS256_wrong_secret', jwt.sign({ ...ada, exp }, other), 'error'], ['HS256_tampered_payload', [head, Buffer.from('{"sub":"2"}').toString('base64url'), tail].join('.'), 'error'],
	['alg_none', jwt.sign({ ...ada, exp }, '', { algorithm: 'none' }), 'error'], ['alg_HS512_header_but_allow_HS256_only', jwt.sign({ ...ada, exp }, secret, { algorithm: 'HS512' }), 'error'],
	['HS256_jose_SignJWT', await new jose.SignJWT({ ...ada, exp }).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret)), 'ok'],
]) {
	await add(signed, { id: `jws/${id}`, secret, cookie_name: names.v4, token }, expect);
}

const derived_keys = [];
for (const s of [secret, ...Object.values(secrets)]) {
	const one = derive('v4', s, '', 32);
	derived_keys.push({ version: 'v4', secret: s, salt: '', info: one.info, length: 32, key_hex: one.key.toString('hex') });
	for (const [salt, length, enc] of [[names.plain, 64, 'A256CBC-HS512'], [names.secure, 64, 'A256CBC-HS512'], [names.plain, 32, 'A256GCM']]) {
		const { info, key, kid } = derive('v5', s, salt, length);
		derived_keys.push({ version: 'v5', enc, secret: s, salt, info, length, key_hex: key.toString('hex'), kid });
	}
}

const session_store_edge = [];
for (const [version, lib, name] of [['v4', 'next-auth@4.24.15', names.v4], ['v5', '@auth/core@0.41.3', names.plain]]) {
	for (const [title, jar] of Object.entries({
		'plain only': [[name, 'AAA']],
		'12 chunks, numeric not lexical order': Array.from({ length: 12 }, (_, i) => [`${name}.${11 - i}`, 'LKJIHGFEDCBA'[i]]),
		'missing chunk .1': [[`${name}.0`, 'A'], [`${name}.2`, 'C']],
		'plain + stale chunks (plain first)': [[name, 'NEW'], [`${name}.0`, 'OLD0'], [`${name}.1`, 'OLD1']],
		'plain + stale chunks (plain last)': [[`${name}.0`, 'OLD0'], [`${name}.1`, 'OLD1'], [name, 'NEW']],
		'prefix collision': [[name, 'AAA'], [`${name}-legacy`, 'ZZZ']],
		'empty plain + chunks': [[name, ''], [`${name}.0`, 'A'], [`${name}.1`, 'B']],
		'secure variant is not a prefix match': [[`__Secure-${name}`, 'S']],
	})) {
		session_store_edge.push({ lib, case: title, cookie_name: name, jar, value: store(version, name, jar).value });
	}
}

const print = (value) => console.log(JSON.stringify(value, null, 1));
if (process.argv[2] === '--lenient') {
	print(await lenient(secret, names));
} else if (process.argv[2] === '--check') {
	const pinned = JSON.parse(readFileSync(process.argv[3], 'utf8'));
	let checked = 0;
	let wrong = 0;
	const fail = (id, why) => { wrong++; console.error(`${id}: ${why}`); };
	for (const v of [...pinned.vectors, ...pinned.signed]) {
		checked++;
		const payload = await read({ salt: '', ...v });
		if ((payload !== null) !== (v.expect === 'ok')) fail(v.id, `pinned as ${v.expect}`);
		for (const [claim, value] of Object.entries((payload && v.payload_out) || {})) {
			if (JSON.stringify(payload[claim]) !== JSON.stringify(value)) fail(v.id, `claim ${claim}`);
		}
	}
	for (const e of pinned.session_store_edge) {
		checked++;
		if (store(e.lib.startsWith('next-auth') ? 'v4' : 'v5', e.cookie_name, e.jar).value !== e.value) fail(e.case, 'value');
	}
	for (const k of pinned.derived_keys) {
		checked++;
		const { key, kid } = derive(k.version, k.secret, k.salt, k.length);
		if (key.toString('hex') !== k.key_hex || (k.kid && k.kid !== kid)) fail(k.info, 'key');
	}
	console.log(`${checked} checked, ${wrong} wrong`);
	process.exitCode = wrong ? 1 : 0;
} else {
	print({ versions: { v4: 'next-auth@4.24.15', v5: '@auth/core@0.41.3', old: '@auth/core@0.18.6', jwt: 'jsonwebtoken@9.0.3' }, derived_keys, vectors, signed, session_store_edge });
}
