export { GET } from "../admin/route.js";

export const dynamic = "force-dynamic";
