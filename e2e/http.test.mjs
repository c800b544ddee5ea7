import { after } from "node:test";
import { testReseeds } from "./reseed.mjs";
import { start } from "./stack.mjs";

const stack = await start("http", { page: "nextjs" });
after(() => stack.stop());

testReseeds(stack);
