import { notes } from "../../../../people.mjs";

export default defineEventHandler(async (event) => {
	await requireUserSession(event);
	return notes();
});
