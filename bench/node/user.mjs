// live reports whether a session's user still exists, is not disabled, and has not
// signed out everywhere since: the check that an app's team would write.
export async function live(pool, token) {
	const { rows } = await pool.query({ name: "user", text: 'select * from "User" where id = $1', values: [token.sub] });
	return rows.length > 0 && !rows[0].disabled && !(rows[0].sessionsValidAfter > token.loginAt);
}
