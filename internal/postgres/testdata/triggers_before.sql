create schema if not exists stale_session;
comment on schema stale_session is 'Notifies caddy-stale-session of users that were deleted or changed. To remove it: drop schema stale_session cascade';
create or replace function stale_session.notify() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $body$
declare
  payload text;
begin
  if tg_op = 'UPDATE' then
    payload := json_build_object('ids', json_build_array(to_jsonb(old) ->> tg_argv[0], to_jsonb(new) ->> tg_argv[0]))::text;
    perform pg_notify('stale_session', case when octet_length(payload) < 8000 then payload else '{}' end);
  elsif tg_op = 'TRUNCATE' then
    perform pg_notify('stale_session', '{}');
  elsif (select count(*) from (select from old_rows limit 1001) few) > 1000 then
    perform pg_notify('stale_session', '{}');
  else
    for payload in
      select json_build_object('ids', json_agg(id))::text
      from (select to_jsonb(o) ->> tg_argv[0] as id, (row_number() over () - 1) / 50 as part from old_rows o) rows
      group by part
    loop
      perform pg_notify('stale_session', case when octet_length(payload) < 8000 then payload else '{}' end);
    end loop;
  end if;
  return null;
end
$body$;
create trigger stale_session_delete after delete on "public"."users" referencing old table as old_rows for each statement execute function stale_session.notify('id');
alter table "public"."users" enable always trigger stale_session_delete;
create trigger stale_session_truncate after truncate on "public"."users" for each statement execute function stale_session.notify('id');
alter table "public"."users" enable always trigger stale_session_truncate;
create trigger stale_session_update after update on "public"."users" for each row when (old."id"::text is distinct from new."id"::text or old."banned"::text is distinct from new."banned"::text) execute function stale_session.notify('id');
alter table "public"."users" enable always trigger stale_session_update;
