import { index, route } from "@react-router/dev/routes";

export default [
	index("routes/home.jsx"),
	route("login", "routes/login.jsx"),
	route("session", "routes/session.js"),
	route("admin", "routes/admin.jsx"),
	route("admin/settings", "routes/settings.jsx"),
	route("api/admin/stats", "routes/stats.js"),
];
