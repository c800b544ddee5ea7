import { createRequestHandler } from "@react-router/express";
import express from "express";
import * as build from "./build/server/index.js";

const app = express();
app.set("trust proxy", "loopback");
app.use(express.static("build/client"));
app.all("/{*path}", createRequestHandler({ build }));
app.listen(process.env.PORT, "127.0.0.1");
