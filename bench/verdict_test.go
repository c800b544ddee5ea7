package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/seed-4adef13c/caddy-stale-session/internal/directory"
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
	users, err := directory.Open(directory.Config{
		DSN: func() (string, error) { return database.DSN("postgres"), nil }, TTL: time.Hour, Timeout: time.Minute, Logger: zap.NewNop,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(users.Close)
	headers := make([]http.Header, few)
	for i := range headers {
		headers[i] = http.Header{"Cookie": {v4Session(b, subject(i))}}
	}
	s, account := new(session.Session), new(directory.Account)
	judge := func(header http.Header) {
		*s = session.Session{}
		reader.Read(header, s)
		claims := &s.Tokens[0].Claims
		if _, err := users.Lookup(context.Background(), directory.Query{Subject: claims.Subject, Now: s.At}, account); err != nil {
			b.Fatal(err)
		}
		if v, _ := verdict.Judge(claims, account, s.At); v != verdict.Live {
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
