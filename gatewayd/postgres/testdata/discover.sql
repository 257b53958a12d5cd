-- A labelled schema for detectors. A column whose comment is "pii …" has to be proposed, no other may be.
-- The values are made up; each table has 120 rows.
create function app.pick(i int, variadic list text[]) returns text language sql immutable as 'select list[1 + i % array_length(list, 1)]';
create table app.users as select i as id,
	app.pick(i, 'Ada', 'Grace', 'Linus', 'Edsger', 'Barbara') as first_name, app.pick(i, 'Lovelace', 'Hopper', 'Dijkstra', 'Liskov', 'O''Neil') as "lastName",
	'u' || i || '@example' || i % 7 || '.org' as email, (i % 2 = 0) as email_verified, now() - i * interval '1 day' as email_verified_at,
	'+4930' || 1234567 + i as phone, i % 3 as phone_count, '$2b$12$' || rpad('KIXQ' || i, 53, 'abcDEF0123./') as password_hash, now() as password_changed_at,
	date '1970-01-01' + i * 37 as dob, app.pick(i, 'nl', 'de', 'fr') as country, 'active' as status, now() as created_at, md5(i::text)::uuid as public_id,
	'10.0.' || i % 255 || '.' || i as last_login_ip, 'dark' as theme, i * 3 as login_count, app.pick(i, 'm', 'f', null) as title from generate_series(1, 120) i;
comment on column app.users.first_name is 'pii'; comment on column app.users."lastName" is 'pii'; comment on column app.users.email is 'pii'; comment on column app.users.phone is 'pii'; comment on column app.users.password_hash is 'pii';
comment on column app.users.dob is 'pii'; comment on column app.users.last_login_ip is 'pii';
create table app.products as select i as id, 'Chair ' || i as name, 'SKU-' || 100000 + i as sku, (i * 7.5)::numeric(10,2) as price, 'A fine chair.' as description, 4000000000000 + i as ean, app.pick(i, 'red', 'blue') as color,
	'https://cdn.example.org/' || i || '.png' as image_url, i * 12 as stock from generate_series(1, 120) i;
create table app.orders as select i as id, i as customer_id, 'ORD-2026-' || lpad(i::text, 6, '0') as order_number, 1700000000 + i * 100 as placed_epoch, (i * 11)::bigint * 1000003 as tracking_number, md5(i::text) as checksum,
	app.pick(i, 'new', 'paid') as state, 'Main Street ' || i as ship_street, 'Utrecht' as city, lpad((1000 + i)::text, 4, '0') || ' AB' as ship_postcode, (i * 3.1)::numeric as total, 'EUR' as currency,
	'Leave it at the door' as delivery_hint, now() as shipped_at from generate_series(1, 120) i;
comment on column app.orders.ship_street is 'pii'; comment on column app.orders.ship_postcode is 'pii';
create table app.payments as select i as id, i as order_id, app.pick(i, '4111111111111111', '5500005555555559', '340000000000009', '4012888888881881', '6011000990139424', '4222222222222') as source,
	app.pick(i, 'NL91ABNA0417164300', 'DE89370400440532013000', 'GB29NWBK60161331926819', 'FR1420041010050500013M02606') as payout_to, app.pick(i, 'visa', 'amex') as card_type, 12 as card_expiry_month, 100 + i as cvv,
	'pi_' || md5(i::text) as intent, (i * 100)::int as amount, app.pick(i, 'captured', 'refunded') as status from generate_series(1, 120) i;
comment on column app.payments.source is 'pii'; comment on column app.payments.payout_to is 'pii'; comment on column app.payments.cvv is 'pii';
create table app.employees as select i as id, app.pick(i, 'Jan de Vries', 'Ana García', 'Zoë Kravitz') as name, lpad((100 + i)::text, 3, '0') || '-45-' || lpad((6000 + i)::text, 4, '0') as ref, 40000 + i * 10 as salary, 'Engineering' as department,
	app.pick(i, 'manager', 'engineer') as job_title, date '2015-01-01' + i as hired_on, 'E' || 1000 + i as badge, app.pick(i, 'AB123456C', 'CE654321A') as nino, 'P' || 1234567 + i as passport_no, app.pick(i, '12345678Z', '00000000T') as doc,
	'x' || i as manager_id, app.pick(i, '+31612345678', '+14155552671', '+442071838750') as reach from generate_series(1, 120) i;
comment on column app.employees.name is 'pii'; comment on column app.employees.ref is 'pii'; comment on column app.employees.salary is 'pii'; comment on column app.employees.nino is 'pii'; comment on column app.employees.passport_no is 'pii'; comment on column app.employees.doc is 'pii';
comment on column app.employees.reach is 'pii';
create table app.integrations as select i as id, 'Slack' as provider, 'xoxb-' || 123456789012 + i || '-' || md5(i::text) as value, 'AKIA' || upper(left(md5(i::text), 16)) as aws, encode(sha256(i::text::bytea), 'base64') as webhook_secret, 'https://hooks.example.org' as url,
	md5(i::text) as etag, encode(sha256(i::text::bytea), 'hex') as content_sha256, md5('t' || i)::uuid as api_key, now() as token_expires_at, i as token_count, 'Bearer' as token_type, 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx' || i || '.c2ln' as session from generate_series(1, 120) i;
comment on column app.integrations.value is 'pii'; comment on column app.integrations.aws is 'pii'; comment on column app.integrations.webhook_secret is 'pii'; comment on column app.integrations.api_key is 'pii'; comment on column app.integrations.session is 'pii';
create table app.events as select i as id, jsonb_build_object('type', 'signup', 'user', jsonb_build_object('email', 'e' || i || '@example.net', 'plan', 'free'), 'contacts', jsonb_build_array(jsonb_build_object('phone', '+3161234567' || i % 10, 'label', 'home')), 'n', i) as payload,
	jsonb_build_object('page', '/home', 'ms', i) as context, '{"utm": "x"}'::json as query, inet '192.0.2.1' as client_ip, 'Mozilla/5.0' as user_agent, md5(i::text)::uuid as request_id, now() as at, 'page_view' as event_name from generate_series(1, 120) i;
comment on column app.events.payload is 'pii json(redact contacts.phone user.email)'; comment on column app.events.client_ip is 'pii';
create table app.settings as select i as id, 'feature.' || i as key, 'on' as value, 'smtp' as email_provider, 'Welcome!' as email_subject, 'reset' as password_policy, 'example.org' as email_domain, 8 as pin_length, 'de' as address_format, 5 as ip_limit, 'x' as secret_name_hint from generate_series(1, 120) i;
create table app.patients as select i as patient_id, app.pick(i, 'Mia Klein', 'Ben Groß', 'Léa Petit') as full_name, 100000 + i * 13 as mrn, date '1960-02-02' + i as birth_date, app.pick(i, 'A+', '0-') as blood_type, '+4912345' || 67890 + i as emergency_phone,
	i::text || ' Elm Road' as address_line_1, null::text as fax, (150 + i % 50) as height_cm, app.pick(i, 'i10', 'e11') as icd from generate_series(1, 120) i;
comment on column app.patients.full_name is 'pii'; comment on column app.patients.mrn is 'pii'; comment on column app.patients.birth_date is 'pii'; comment on column app.patients.emergency_phone is 'pii'; comment on column app.patients.address_line_1 is 'pii'; comment on column app.patients.fax is 'pii'; comment on column app.patients.icd is 'pii';
create table app.newsletter as select i as id, 'n' || i || '@example.com' as recipient, array['a' || i || '@x.org', 'b' || i || '@y.org'] as cc, 'spring' as campaign, i % 100 as open_rate, 'Dear reader' as subject from generate_series(1, 120) i;
comment on column app.newsletter.recipient is 'pii'; comment on column app.newsletter.cc is 'pii';
create table app.machines as select i as id, 'host-' || i as hostname, '10.1.0.' || i as address, '08:00:2b:01:02:' || lpad(to_hex(i), 2, '0') as mac_address, 'linux' as os, 'eu-1' as region, 443 as port, 'v' || i || '.2' as version, i::text as cell_id, 'rack ' || i as pan_tilt from generate_series(1, 120) i;
comment on column app.machines.mac_address is 'pii';
create table app.empty (id int, iban text, surname text, note text, born_on date, total numeric, zip text, street_count int);
comment on column app.empty.iban is 'pii'; comment on column app.empty.surname is 'pii'; comment on column app.empty.zip is 'pii';
comment on column app.empty.born_on is 'pii';
create table app.accounts as select i as id, 'acme-' || i as slug, 'Acme ' || i || ' Ltd.' as company_name, 'NL0012345' || i % 10 || '7B01' as vat_number, app.pick(i, 'billing' || i || '@acme.example', 'ap' || i || '@acme.example') as billing_contact, 1000000000 + i as ledger_no, 30 as payment_days, 'EUR' as currency_code,
	i * 1.5 as balance, app.pick(i, 'Kees Jansen', 'Eva Smit') as contact_name, lpad(i::text, 16, '4') as external_ref from generate_series(1, 120) i;
comment on column app.accounts.billing_contact is 'pii'; comment on column app.accounts.contact_name is 'pii';
analyze;
