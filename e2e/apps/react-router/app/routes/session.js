import { userOf } from "../session.server.js";

export async function loader({ request }) {
	return Response.json(await userOf(request));
}
