DROP TABLE IF EXISTS "SiteCustomization", "Media", "User";

CREATE TABLE "User" (
	id          text PRIMARY KEY,
	name        text NOT NULL,
	email       text NOT NULL UNIQUE,
	"createdAt" timestamp(3) NOT NULL DEFAULT current_timestamp
);

CREATE TABLE "Media" (
	id         serial PRIMARY KEY,
	file       text NOT NULL,
	bytes      bigint NOT NULL,
	"ownerId"  text NOT NULL REFERENCES "User" (id)
);

CREATE TABLE "SiteCustomization" (
	id         serial PRIMARY KEY,
	title      text NOT NULL,
	"authorId" text NOT NULL REFERENCES "User" (id)
);
