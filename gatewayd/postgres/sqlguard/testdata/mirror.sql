-- Puts in every masked cell what its mask shows, one statement a line: a server after these answers directly as the guard must answer.
set session_replication_role = replica
alter table app.customers drop constraint customers_email_key
update app.customers set email = left(email, 1) || '***@***', ssn = '****', salary = 0, balance = null, born = '1970-01-01', token = '00000000-0000-0000-0000-000000000000', notes = '{}', tags = '{}'
update app.events set secret = left(secret, 1) || '***'
update app.parent set hidden = '****'
update app."Odd Name" set "Se cret" = '****'
update app.generated set pin = null
