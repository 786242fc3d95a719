-- Whether an account still may what it began, for the other guards: it is in use, so is the person behind it, it holds one of the
-- roles, and, unless a limit to tenants is no matter there, neither is limited.
CREATE OR REPLACE FUNCTION registry_still_may(account bigint, roles text[], even_limited boolean) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM registry_user AS began
            JOIN registry_user AS behind ON behind.id = began.person
            JOIN registry_user_groups AS membership ON membership.user_id = began.id
            JOIN auth_group AS held ON held.id = membership.group_id
            WHERE began.id = account AND began.is_active AND behind.is_active AND held.name = ANY (roles)
                AND (even_limited OR NOT (began.is_limited_to_tenants OR behind.is_limited_to_tenants))
    )
$$;
