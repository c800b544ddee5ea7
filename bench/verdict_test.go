package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/seed-4adef13c/caddy-stale-session/directories"
	"github.com/seed-4adef13c/caddy-stale-session/internal/accounts"
	"github.com/seed-4adef13c/caddy-stale-session/internal/postgres"
	"github.com/seed-4adef13c/caddy-stale-session/internal/session"
	"github.com/seed-4adef13c/caddy-stale-session/internal/verdict"
)

// BenchmarkVerdict measures a cached session from the Cookie field to the
// verdict.
func BenchmarkVerdict(b *testing.B) {
	database, err := newDatabase(b.Context(), few)
	if database != nil {
		b.Cleanup(func() {
			if err := database.Close(); err != nil {
				b.Error(err)
			}
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	reader, err := session.New(session.Config{Secrets: []string{secret}})
	if err != nil {
		b.Fatal(err)
	}
	directory, err := postgres.Open(postgres.Config{DSN: func() (string, error) { return database.DSN("postgres"), nil }})
	if err != nil {
		b.Fatal(err)
	}
	users := accounts.Open(directory, accounts.Config{TTL: time.Hour, Timeout: time.Minute})
	b.Cleanup(func() { _ = users.Close() })
	headers := make([]http.Header, few)
	for i := range headers {
		headers[i] = http.Header{"Cookie": {v4Session(b, subject(i))}}
	}
	s, account := new(session.Session), new(accounts.Account)
	judge := func(header http.Header) {
		*s = session.Session{}
		reader.Read(header, s)
		claims := &s.Tokens[0].Claims
		if _, err := users.Lookup(context.Background(), accounts.Query{Query: directories.Query{Subject: claims.Subject}, Now: s.At}, account); err != nil {
			b.Fatal(err)
		}
		if v, _ := verdict.Judge(claims, &account.Account, verdict.Times{Now: s.At}); v != verdict.Live {
			b.Fatalf("verdict %s", v)
		}
	}
	for _, header := range headers {
		judge(header)
	}
	b.ReportAllocs()
	for b.Loop() {
		judge(headers[rand.IntN(few)])
	}
}
