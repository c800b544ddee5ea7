// Queries of the tests.

import pg from "pg";

/** Runs SQL in a database and returns the rows. */
export async function query(database, sql, values) {
	const client = new pg.Client({ connectionString: databaseURL(database) });
	await client.connect();
	try {
		return (await client.query(sql, values)).rows;
	} finally {
		await client.end();
	}
}

export function databaseURL(database) {
	const url = new URL(process.env.E2E_POSTGRES);
	url.pathname = database;
	return url.href;
}

/** Returns an address by which lookups may take long: on a busy machine sessions would pass unchecked. */
export function patient(address) {
	const url = new URL(address);
	for (const name of ["statement_timeout", "lock_timeout"]) url.searchParams.set(name, "60000");
	return url.href;
}
