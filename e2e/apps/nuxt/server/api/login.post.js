import { authorize } from "../../../people.mjs";

export default defineEventHandler(async (event) => {
	const user = await authorize(await readBody(event));
	if (!user) throw createError({ statusCode: 401 });
	await setUserSession(event, { user });
	return null;
});
