// An app with an event stream, a WebSocket, GraphQL subscriptions and Socket.IO, by
// the libraries that apps use.

import http from "node:http";
import { GraphQLObjectType, GraphQLSchema, GraphQLString } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { Server } from "socket.io";
import { WebSocketServer } from "ws";

const schema = new GraphQLSchema({
	query: new GraphQLObjectType({ name: "Query", fields: { said: { type: GraphQLString } } }),
	subscription: new GraphQLObjectType({
		name: "Subscription",
		fields: {
			said: {
				type: GraphQLString,
				async *subscribe() {
					yield { said: "first" };
					await new Promise(() => {}); // nothing more is said
				},
			},
		},
	}),
});

/** Starts the app on a port, and returns it with the paths of the requests that it got. */
export async function startApp(port) {
	const requests = [];
	const server = http.createServer((request, response) => {
		if (!request.url.startsWith("/app/events")) return response.end("app");
		response.writeHead(200, { "content-type": "text/event-stream" });
		response.write("retry: 50\ndata: first\n\n");
	});
	const note = (request) => requests.push(request.url.split("?")[0]);
	server.on("request", note);
	const sockets = { "/app/socket": new WebSocketServer({ noServer: true }), "/app/graphql": new WebSocketServer({ noServer: true }) };
	useServer({ schema }, sockets["/app/graphql"]);
	const io = new Server(server, { path: "/app/socket.io", destroyUpgrade: false });
	server.on("upgrade", (request, socket, head) => {
		note(request);
		const upgraded = sockets[request.url];
		upgraded?.handleUpgrade(request, socket, head, (client) => upgraded.emit("connection", client, request));
	});
	await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
	return {
		requests,
		stop() {
			io.close();
			server.closeAllConnections();
		},
	};
}
