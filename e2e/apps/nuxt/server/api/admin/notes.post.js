import { saveNote } from "../../../../people.mjs";

export default defineEventHandler(async (event) => {
	const { user } = await requireUserSession(event);
	await saveNote(user.id, (await readBody(event)).text);
	return null;
});
