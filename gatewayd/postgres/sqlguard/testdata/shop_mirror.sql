-- As mirror.sql, for shop.sql.
set session_replication_role = replica
alter table users drop constraint users_email_key
alter table users drop constraint users_pin_check
alter table web_sessions drop constraint web_sessions_pkey
update users set email = left(email::text, 1) || '***@***', phone = '****' || right(phone, 4), password_hash = '****', full_name = '****', home = null, attrs = '', iban = null, pin = 0, score = 0, birth = '1970-01-01', photo = '', ip = '0.0.0.0', stay = null, codes = '{}', doc = '{}', raw = '{}', page = null, search = '', path = null, sex = null, seen = '1970-01-01 00:00:00+00', quota = null
update payments set card = '****', cents = 0
update web_sessions set token = '00000000-0000-0000-0000-000000000000'
update hr.staff set salary = 0, ssn = '****'
update secrets_by_day set code = left(code, 1) || '***'
